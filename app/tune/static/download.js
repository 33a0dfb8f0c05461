// Fetches the adapter chosen, for its owner only.

import { bytesOf } from "../../common/static/base64.js";
import { saveFile } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";

export default function mount({ element, props, server, watch }) {
  const button = element.querySelector("button");
  const words = element.querySelector("span");
  let value = null;

  function receive() {
    value = props.value ? JSON.parse(props.value) : null;
    button.disabled = !value?.ready;
    words.textContent = "";
  }

  button.addEventListener("click", async () => {
    words.textContent = "Packing …";
    const reply = await answerOf(server.download_adapter({ visitor: value.visitor, adapter: value.adapter }));
    words.textContent = reply.error || "";
    if (!reply.error) saveFile(bytesOf(reply.archive), "application/zip", reply.name);
  });
  watch("value", receive);
  receive();
}
