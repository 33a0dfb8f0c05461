// The opening picture has the right theme before anything is painted.
{
  const initial = document.getElementById("initial-page");
  const asked = new URL(location).searchParams.get("__theme");
  const dark = asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  initial.classList.toggle("dark", dark);
  const style = document.createElement("style");
  style.id = "initial-style";
  style.textContent = window.gradio_config.css || "";
  initial.before(style);
}
