// A Modbus device by other hands: `node modbus_server.js LIBRARY WHERE TABLES`.
//   LIBRARY  jsmodbus (TCP), modbus-serial (TCP) or modbus-serial-rtu (a serial port)
//   WHERE    a port of this machine, or the path of a serial port
//   TABLES   {"holding": [...], "input": [...], "coil": [...], "discrete": [...]}, all from 0
// Prints {"where": ...} when it listens. What lies beyond a table is refused.
"use strict";
const net = require("node:net");

const [library, where, text] = process.argv.slice(2);
const tables = JSON.parse(text);
const ready = () => console.log(JSON.stringify({ where }));

function registers(values) {
  const bytes = Buffer.alloc(2 * values.length);
  values.forEach((value, i) => bytes.writeUInt16BE(value, 2 * i));
  return bytes;
}

function bits(values) {
  const bytes = Buffer.alloc(Math.ceil(values.length / 8));
  values.forEach((value, i) => (bytes[i >> 3] |= value << (i & 7)));
  return bytes;
}

function jsmodbus() {
  const { ModbusTCPServer } = require("jsmodbus");
  const sockets = net.createServer();
  new ModbusTCPServer(sockets, {
    holding: registers(tables.holding),
    input: registers(tables.input),
    coils: bits(tables.coil),
    discrete: bits(tables.discrete),
  });
  sockets.listen(Number(where), "127.0.0.1", ready);
}

function modbusSerial() {
  const { ServerTCP, ServerSerial } = require("modbus-serial");
  const read = (table) => (address) => {
    if (address >= table.length) {
      throw Object.assign(new Error("no such address"), { modbusErrorCode: 2 });
    }
    return table[address];
  };
  const vector = {
    getHoldingRegister: read(tables.holding),
    getInputRegister: read(tables.input),
    getCoil: read(tables.coil.map(Boolean)),
    getDiscreteInput: read(tables.discrete.map(Boolean)),
  };
  if (library === "modbus-serial-rtu") {
    const server = new ServerSerial(vector, { path: where, port: where, baudRate: 19200, unitID: 1 });
    server.on("initialized", ready);
  } else {
    const server = new ServerTCP(vector, { host: "127.0.0.1", port: Number(where), unitID: 1 });
    server.on("initialized", ready);
  }
}

(library === "jsmodbus" ? jsmodbus : modbusSerial)();
