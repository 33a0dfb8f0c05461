// Tabs under the picture.

export function createTabs({ element }) {
  const tabs = [...element.querySelectorAll("[role=tab]")];

  function choose(name) {
    for (const tab of tabs) {
      const here = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(here));
      tab.tabIndex = here ? 0 : -1;
    }
    element.querySelectorAll("[role=tabpanel]").forEach((panel) => (panel.hidden = panel.dataset.panel !== name));
  }

  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => choose(tab.dataset.tab));
    tab.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move) return;
      const next = tabs[(place + move + tabs.length) % tabs.length];
      choose(next.dataset.tab);
      next.focus();
    });
  });

  return { choose };
}
