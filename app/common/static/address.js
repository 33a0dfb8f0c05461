// What is on show stands in the address, as #TAB or #TAB/THING: a run, an evaluation or an inspection by its name. A
// reload keeps it, and Back goes back. A name says which, it opens nothing that is not the visitor's own.

// Gradio has a second, hidden row of the same names, to measure them.
const BAR = ".tab-container[role=tablist]";
const THING = /^[\w-]{1,64}$/;
const LAST = "a3tune-last";
const PATIENCE = 10000;

const things = {}; // by tab, what is on show there
const openers = {}; // by tab, what opens another thing there

const tabs = () => [...document.querySelectorAll(BAR + " [role=tab]")].filter((tab) => tab.checkVisibility());
const nameOf = (tab) => tab.dataset.tabId;
// On a narrow page Gradio puts tabs into a menu, by their labels alone.
const inMenu = (name) =>
  [...document.querySelectorAll(".overflow-dropdown button")].find(
    (entry) => entry.textContent.trim().toLowerCase() === name,
  );
const onShow = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");

function parsed() {
  const [tab, thing = ""] = location.hash.slice(1).split("/");
  return { tab, thing: THING.test(thing) ? thing : "" };
}

const addressOf = (tab) =>
  things[tab] ? "#" + tab + "/" + things[tab] : tab === "inspect" ? location.pathname + location.search : "#" + tab;

// The name of what the address asks for on a tab; "" where it asks for nothing there.
export function wantedOn(tab) {
  const { tab: here, thing } = parsed();
  return (here || "inspect") === tab ? thing : "";
}

// What a new page of this browser tab asks for: [name in the address, and of what was on show last the result's name
// and the image's].
export function wantedInspection() {
  let last = {};
  try {
    last = JSON.parse(sessionStorage.getItem(LAST)) || {};
  } catch {
    // Nothing was kept.
  }
  return [wantedOn("inspect"), String(last.result || ""), String(last.image || "")];
}

export function keepInspection(result, image) {
  try {
    sessionStorage.setItem(LAST, JSON.stringify({ result, image }));
  } catch {
    // A browser that keeps nothing for pages: a reload opens the first example, or what stands in the address.
  }
}

function write(tab, push) {
  const address = addressOf(tab);
  const there = tab === "inspect" && !things[tab] ? "" : address;
  if (there === location.hash) return;
  window.history[push ? "pushState" : "replaceState"](null, "", address);
}

// A tab shows a thing ("" for none).
export function tellThing(tab, thing) {
  if (things[tab] === thing) return;
  const before = things[tab];
  things[tab] = thing;
  const here = onShow();
  // Where the address named none of this tab's yet, the page chose this one by itself.
  if (here && nameOf(here) === tab) write(tab, Boolean(before));
}

// `open(thing)` shows another thing of a tab that is on show already.
export function openThings(tab, open) {
  openers[tab] = open;
}

// Runs stand in a view of their own.
async function reveal(tab) {
  if (tab !== "tune") return;
  for (const start = performance.now(); performance.now() - start < PATIENCE;) {
    const view = document.querySelector("#tune-views " + BAR + " [data-tab-id=run]");
    if (view?.getAttribute("aria-selected") === "true") return;
    view?.click();
    await new Promise((done) => setTimeout(done, 100));
  }
}

export function followAddress() {
  function open(event) {
    const { tab: name, thing } = parsed();
    const wanted = tabs().find((tab) => nameOf(tab) === name) || (name ? inMenu(name) : tabs()[0]);
    if (!wanted) return;
    if (thing) reveal(name);
    if (wanted !== onShow()) wanted.click();
    // A new page asks for it as it begins.
    else if (event && thing && thing !== things[name] && openers[name]) openers[name](thing);
  }

  // Other parts of the page change the tab as well: whatever is on show is told.
  function tell() {
    const tab = onShow();
    // What the address asks for on this tab is on its way.
    if (tab && parsed().tab !== nameOf(tab)) write(nameOf(tab), true);
  }

  // The tabs come after the page's head.
  function begin() {
    const bar = document.querySelector(BAR);
    if (!bar || !onShow()) return false;
    open();
    new MutationObserver(tell).observe(bar, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
    addEventListener("popstate", open);
    return true;
  }

  if (begin()) return;
  const waiting = new MutationObserver(() => begin() && waiting.disconnect());
  waiting.observe(document.body, { subtree: true, childList: true });
}
