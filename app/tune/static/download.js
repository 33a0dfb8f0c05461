// Fetches the adapter chosen for its owner only: no file with an address of its own is made for it.
const button = element.querySelector("button");
const words = element.querySelector("span");
let value = null;

function receive() {
  value = props.value ? JSON.parse(props.value) : null;
  button.disabled = !(value && value.ready);
  words.textContent = "";
}

button.addEventListener("click", async () => {
  words.textContent = "Packing …";
  // A call ends with an error, or with nothing at all where the server was started anew since.
  const asked = server.download_adapter({ visitor: value.visitor, adapter: value.adapter });
  const reply = (await asked.catch(() => null)) || { error: "The server does not answer." };
  words.textContent = reply.error || "";
  if (reply.error) return;
  const bytes = Uint8Array.from(atob(reply.archive), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: "application/zip" }));
  link.download = reply.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
watch("value", receive);
receive();
