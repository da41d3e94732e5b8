// Locks unique ids with Node's package consul, connections kept, so many promises at a time; prints the rate.
const http = require("http");
let Consul;
try {
  Consul = require("consul");
} catch {
  process.exit(3); // peers.NO_PACKAGE
}

const told = JSON.parse(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, maxSockets: told.callers });
const consul = new Consul({ host: told.host, port: told.port, agent });
let count = 0;

async function caller(until) {
  while (performance.now() < until) {
    const key = `${told.name}/${count++}/lock`;
    if (!(await consul.kv.set({ key, value: told.value, acquire: told.session }))) {
      throw new Error(`${key} was not granted`);
    }
  }
}

function callers(seconds) {
  const until = performance.now() + seconds * 1000;
  return Promise.all(Array.from({ length: told.callers }, () => caller(until)));
}

async function main() {
  await callers(0.2); // connections are open then, and the code is compiled
  count = 0;
  told.name += "/measured";
  const begun = performance.now();
  await callers(told.seconds);
  console.log(JSON.stringify({ rate: (count / (performance.now() - begun)) * 1000 }));
  agent.destroy();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
