// A strip of example images; choosing one triggers "pick" with its key.
const strip = element.querySelector(".examples");
for (const example of JSON.parse(props.items)) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "example";
  button.dataset.key = example.key;
  button.title = example.about;
  button.setAttribute("aria-pressed", "false");
  const image = document.createElement("img");
  image.src = example.thumbnail;
  image.alt = "";
  const name = document.createElement("span");
  name.textContent = example.title;
  button.append(image, name);
  strip.append(button);
}

strip.addEventListener("click", (event) => {
  const button = event.target.closest(".example");
  if (button) trigger("pick", { key: button.dataset.key });
});

// The server says which example is on show ("" for a file of the visitor's own).
function mark() {
  strip.querySelectorAll(".example").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.key === props.value)));
}
watch("value", mark);
mark();
