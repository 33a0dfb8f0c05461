// Says which model speaks, and asks the server once a second until it has come.
const head = element.querySelector(".studio-head");
head.querySelector(".notice").textContent = props.notice;

async function ask() {
  let reply;
  try {
    reply = await server.model_status();
  } catch (error) {
    reply = { state: "loading", name: "", text: "The server does not answer." };
  }
  head.dataset.state = reply.state;
  head.querySelector(".name").textContent = reply.name;
  head.querySelector(".text").textContent = reply.text;
  if (reply.state === "loading") setTimeout(ask, 1000);
}
ask();
