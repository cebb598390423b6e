// A node-opcua server with a small plant: `node opcua_server.js PORT PKI_FOLDER [strict]`.
// Strict, it lets in only clients whose certificate it was told to trust.
// Prints {"url": ...} when it listens. Reads commands as JSON lines from stdin:
//   {"name": "speed", "value": 1.5}    gives a variable a value, now; answered by {}
//   {"trust": true}                    trusts every client that was turned away; answered by {}
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const {
  DataType,
  MessageSecurityMode,
  OPCUACertificateManager,
  OPCUAServer,
  SecurityPolicy,
  StatusCodes,
  Variant,
  VariantArrayType,
  nodesets,
} = require("node-opcua");
const { readCertificate } = require("node-opcua-crypto");

async function main() {
  const [port, pki, strict] = process.argv.slice(2);
  const certificates = new OPCUACertificateManager({
    automaticallyAcceptUnknownCertificate: strict !== "strict",
    rootFolder: pki,
  });
  await certificates.initialize();
  const server = new OPCUAServer({
    port: Number(port),
    host: "127.0.0.1",
    resourcePath: "/plant",
    serverCertificateManager: certificates,
    userCertificateManager: certificates,
    securityModes: [
      MessageSecurityMode.None,
      MessageSecurityMode.Sign,
      MessageSecurityMode.SignAndEncrypt,
    ],
    securityPolicies: [
      SecurityPolicy.None,
      SecurityPolicy.Basic256Sha256,
      SecurityPolicy.Aes128_Sha256_RsaOaep,
      SecurityPolicy.Aes256_Sha256_RsaPss,
    ],
    nodeset_filename: [nodesets.standard, path.join(__dirname, "motor.xml")],
    userManager: { isValidUser: (user, password) => user === "press" && password === "s3cret" },
    serverCapabilities: {
      operationLimits: {
        maxMonitoredItemsPerCall: 7,
        maxNodesPerRead: 20,
        maxNodesPerBrowse: 5,
        maxNodesPerTranslateBrowsePathsToNodeIds: 6,
      },
    },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const plant = space.registerNamespace("urn:test:plant");
  const pump = plant.addObject({ organizedBy: space.rootFolder.objects, browseName: "Pump" });
  const nodes = {};
  const kinds = { number: DataType.Double, string: DataType.String, boolean: DataType.Boolean };
  const variant = (value) =>
    Array.isArray(value)
      ? new Variant({ dataType: DataType.Double, arrayType: VariantArrayType.Array, value })
      : new Variant({ dataType: kinds[typeof value], value });
  const add = (name, value) => {
    nodes[name] = plant.addVariable({
      componentOf: pump,
      nodeId: `s=${name}`,
      browseName: name,
      dataType: Array.isArray(value) ? DataType.Double : kinds[typeof value],
      valueRank: Array.isArray(value) ? 1 : -1,
      minimumSamplingInterval: 10,
    });
    nodes[name].setValueFromSource(variant(value));
  };
  nodes.flow = plant.addAnalogDataItem({
    componentOf: pump,
    nodeId: "s=flow",
    browseName: "flow",
    dataType: DataType.Double,
    engineeringUnitsRange: { low: 0, high: 50 },
    engineeringUnits: { displayName: "m³/h", unitId: 5067857, namespaceUri: "urn:units" },
  });
  nodes.flow.setValueFromSource(variant(0));
  add("speed", 0);
  add("mode", "running");
  add("burst", [0, 1, 0, -1]);
  const types = space.getNamespaceIndex("urn:test:types");
  const structure = (name, options) => {
    const dataType = space.findDataType(name, types);
    const value = space.constructExtensionObject(dataType, options);
    nodes[name] = plant.addVariable({
      componentOf: pump,
      nodeId: `s=${name}`,
      browseName: name,
      dataType,
    });
    nodes[name].setValueFromSource(new Variant({ dataType: DataType.ExtensionObject, value }));
  };
  structure("Motor", {
    name: "M1",
    mode: 2,
    speed: 1480.5,
    windings: [{ temperature: 61, current: 4.5 }, { temperature: 62, current: 4.75 }],
    counts: [7, 8, 9],
    span: { low: -5, high: 40 },
    hottest: { temperature: 63, current: 5 },
  });
  structure("Gearbox", { ratio: 12.5, torque: 3.5 });
  for (let i = 0; i < 40; i++) add(`n${i}`, i);
  space.installHistoricalDataNode(nodes.speed);
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const { name, value, trust } = JSON.parse(line);
    if (trust) {
      const rejected = path.join(pki, "rejected");
      for (const file of fs.readdirSync(rejected)) {
        await certificates.trustCertificate(readCertificate(path.join(rejected, file)));
      }
      console.log("{}");
      return;
    }
    nodes[name].setValueFromSource(variant(value), StatusCodes.Good);
    console.log("{}");
  });
  process.stdin.on("end", () => process.exit(0)); // The test is gone.
  await server.start();
  console.log(JSON.stringify({ url: `opc.tcp://127.0.0.1:${port}/plant` }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
