// A Modbus device by other hands: `node modbus_server.js LIBRARY WHERE TABLES`.
//   LIBRARY  jsmodbus (TCP), modbus-serial (TCP), modbus-serial-rtu (a serial port),
//            modbus-stream-ascii (a serial port) or modbus-stream-udp
//   WHERE    a port of this machine (0: any, of UDP), or the path of a serial port
//   TABLES   {"holding": [...], "input": [...], "coil": [...], "discrete": [...]}, all from 0
// Prints {"where": ...} when it listens. What lies beyond a table is refused.
"use strict";
const dgram = require("node:dgram");
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

// The library leaves the answer to us: header, conformity, no more to follow, objects 0 to 2.
function identification(request) {
  const objects = ["ACME\n", "Press 9000", "V1.2"].map((text, id) =>
    Buffer.concat([Buffer.from([id, text.length]), Buffer.from(text)]),
  );
  const pdu = Buffer.concat([
    Buffer.from([0x2b, 0x0e, 1, 1, 0, 0, objects.length]),
    ...objects,
  ]);
  const head = Buffer.alloc(7);
  head.writeUInt16BE(request.id, 0);
  head.writeUInt16BE(pdu.length + 1, 4);
  head.writeUInt8(request.slaveId ?? request.unitId, 6);
  return Buffer.concat([head, pdu]);
}

function jsmodbus() {
  const { ModbusTCPServer } = require("jsmodbus");
  const sockets = net.createServer();
  const server = new ModbusTCPServer(sockets, {
    holding: registers(tables.holding),
    input: registers(tables.input),
    coils: bits(tables.coil),
    discrete: bits(tables.discrete),
  });
  server.on("readDeviceIdentification", (request, answer) => answer(identification(request)));
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
    const line = { path: where, baudRate: 19200, unitID: 1 };
    // A pseudo-terminal is this test's own: nobody needs to be locked out.
    const server = new ServerSerial(vector, line, { lock: false });
    server.on("initialized", ready);
  } else {
    const server = new ServerTCP(vector, { host: "127.0.0.1", port: Number(where), unitID: 1 });
    server.on("initialized", ready);
  }
}

// The library has an answer for each request, but ends at what it must refuse: that is ours to say.
function answer(stream) {
  const reads = {
    "read-holding-registers": [tables.holding, (word) => Buffer.from([word >> 8, word & 255])],
    "read-input-registers": [tables.input, (word) => Buffer.from([word >> 8, word & 255])],
    "read-coils": [tables.coil, Boolean],
    "read-discrete-inputs": [tables.discrete, Boolean],
  };
  for (const [name, [table, encode]] of Object.entries(reads)) {
    stream.on(name, ({ request }, reply) => {
      const { address, quantity } = request;
      if (address + quantity > table.length) reply("IllegalDataAddress");
      else reply(null, table.slice(address, address + quantity).map(encode));
    });
  }
}

function modbusStreamAscii() {
  const modbus = require("modbus-stream");
  const { SerialPort } = require("serialport");
  const port = new SerialPort({ path: where, baudRate: 19200, lock: false }, ready);
  answer(new modbus.stream(modbus.transports.ascii.prepare()(port), { debug: null }));
}

// Its own UDP server answers from another port than it was asked at; here it has a socket of ours.
function modbusStreamUdp() {
  const modbus = require("modbus-stream");
  const { Duplex } = require("node:stream");
  const socket = dgram.createSocket("udp4");
  const links = new Map();
  socket.on("message", (data, from) => {
    if (!links.has(from.port)) {
      const link = new Duplex({
        read() {},
        write: (bytes, _, done) => socket.send(bytes, from.port, from.address, done),
      });
      links.set(from.port, link);
      answer(new modbus.stream(modbus.transports.tcp.prepare({})(link), { debug: null }));
    }
    links.get(from.port).push(data);
  });
  socket.bind(Number(where), "127.0.0.1", () =>
    console.log(JSON.stringify({ where: socket.address().port })),
  );
}

const servers = {
  jsmodbus,
  "modbus-serial": modbusSerial,
  "modbus-serial-rtu": modbusSerial,
  "modbus-stream-ascii": modbusStreamAscii,
  "modbus-stream-udp": modbusStreamUdp,
};
servers[library]();
