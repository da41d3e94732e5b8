// Reads a JSON list of Mermaid texts, and writes for each what Mermaid's own parser makes of it.
// Run in a folder where `npm install mermaid jsdom` was done.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.cwd() + "/");
const { JSDOM } = require("jsdom");
const dom = new JSDOM("<!DOCTYPE html><body></body>");
globalThis.window = dom.window;
globalThis.document = dom.window.document;
const module = require.resolve("mermaid").replace(/[^/]*$/, "mermaid.core.mjs");
const { default: mermaid } = await import(pathToFileURL(module));

// Mermaid keeps entities in this form until it draws.
const decoded = (text) => text.replace(/ﬂ°°(\d+)¶ß/g, (_, code) => String.fromCodePoint(code));

function states(doc, found) {
  for (const each of doc) {
    if (each.stmt === "state" && each.description && !found[each.id]) found[each.id] = decoded([each.description].flat()[0]);
    if (each.doc) states(each.doc, found);
  }
  return found;
}

function relations(doc) {
  return doc.flatMap((each) => [
    ...(each.stmt === "relation" ? [[each.state1.id, each.state2.id, decoded(each.description ?? "")]] : []),
    ...(each.doc ? relations(each.doc) : []),
  ]);
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const answers = [];
for (const each of JSON.parse(text)) {
  try {
    await mermaid.parse(each);
    const { db } = await mermaid.mermaidAPI.getDiagramFromText(each);
    const root = db.rootDoc ?? db.getRootDoc?.();
    if (root) {
      answers.push({ states: states(root, Object.create(null)), relations: relations(root) });
    } else {
      const actors = [...db.getActors().values()].map((actor) => decoded(actor.description));
      answers.push({ actors, messages: db.getMessages().map((message) => decoded(String(message.message))) });
    }
  } catch (error) {
    answers.push({ error: String(error.message ?? error) });
  }
}
console.log(JSON.stringify(answers));
