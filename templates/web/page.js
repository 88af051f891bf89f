// The chat page: a client on 1.0 beside one on 2.0, and the versions that live.

import { element } from "./log.js";
import { Pane } from "./pane.js";

const lookEveryMs = 3_000;

const panes = ["1.0", "2.0"].map((version) => {
  const root = document.getElementById("pane").content.cloneNode(true).firstElementChild;
  document.getElementById("panes").append(root);
  return new Pane(root, version, () => lookForVersions());
});
let known = "";
let asked = 0;

await lookForVersions();
begin(await demo());
setInterval(() => document.hidden || lookForVersions(), lookEveryMs);
document.addEventListener("visibilitychange", () => document.hidden || lookForVersions());

// demo is what `kmsctl up` wrote for this page: a tenant, a channel and two users. Production has none.
async function demo() {
  try {
    const answer = await fetch("demo.json", { cache: "no-store" });
    const found = answer.ok ? await answer.json() : null;
    return found?.users?.length >= panes.length ? found : null;
  } catch {
    return null;
  }
}

function begin(found) {
  document.getElementById("tips").hidden = !found;
  document.getElementById("where").textContent = found ? `${found.tenant} / ${found.channel}` : "";
  panes.forEach((pane, i) => pane.start(found && { tenant: found.tenant, channel: found.channel, ...found.users[i] }));
}

async function lookForVersions() {
  const mine = ++asked;
  let live;
  try {
    const answer = await fetch("versions", { cache: "no-store" });
    live = (await answer.json()).versions.map((v) => v.version);
  } catch {
    return; // what we know stays on the page; the panes tell that the server is away
  }
  if (mine !== asked || known === live.join()) return; // an older answer that comes late is out of date
  known = live.join();
  const chips = live.map((v) => element("span", "chip", v));
  document.getElementById("versions").replaceChildren(...(chips.length ? chips : [element("span", "none", "none")]));
  for (const pane of panes) pane.versionsAre(live);
}
