// The tab on show stands in the address: a reload keeps it, and Back goes back.

// Gradio has a second, hidden row of the same names, to measure them.
const BAR = ".tab-container[role=tablist]";
const tabs = () => [...document.querySelectorAll(BAR + " [role=tab]")].filter((tab) => tab.checkVisibility());
const nameOf = (tab) => tab.dataset.tabId;
const onShow = () => tabs().find((tab) => tab.getAttribute("aria-selected") === "true");

export function followAddress() {
  function open() {
    const wanted = tabs().find((tab) => "#" + nameOf(tab) === location.hash) || (location.hash ? null : tabs()[0]);
    if (wanted && wanted !== onShow()) wanted.click();
  }

  // Other parts of the page change the tab as well: whatever is on show is told.
  function tell() {
    const tab = onShow();
    if (!tab) return;
    const first = tab === tabs()[0];
    const told = first ? "" : "#" + nameOf(tab);
    if (told !== location.hash) window.history.pushState(null, "", told || location.pathname + location.search);
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
