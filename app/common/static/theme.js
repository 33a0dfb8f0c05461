// Light or dark: as the system has it until a person chooses; the browser remembers that.

const CHOSEN = "a3tune-theme";

export function listenToTheme(button) {
  const show = (dark) => document.body.classList.toggle("dark", dark);
  button.addEventListener("click", () => {
    const dark = !document.body.classList.contains("dark");
    show(dark);
    try {
      localStorage.setItem(CHOSEN, dark ? "dark" : "light");
    } catch {
      // A browser that keeps nothing for pages: chosen for this page alone.
    }
  });
  try {
    const chosen = localStorage.getItem(CHOSEN);
    if (chosen && !new URL(location).searchParams.has("__theme")) show(chosen === "dark");
  } catch {
    // As the system has it.
  }
}
