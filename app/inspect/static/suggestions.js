// Suggested questions; choosing one triggers "pick" with its text.
const list = element.querySelector(".suggestions");

function show() {
  list.replaceChildren();
  for (const question of JSON.parse(props.value || "[]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "suggestion";
    button.textContent = question;
    list.append(button);
  }
}

list.addEventListener("click", (event) => {
  const button = event.target.closest(".suggestion");
  if (button) trigger("pick", { question: button.textContent });
});
watch("value", show);
show();
