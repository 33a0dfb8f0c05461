// The visitor's secret (app.common.identity), for what asks the server by itself, on every tab.

let secret = "";

const LENGTH = 43;

// As `new_secret` draws it: 32 random bytes as 43 letters. In the browser, so that it is there with the page and not a
// request later, which on a busy server may be after the first press of a button.
function drawn() {
  const text = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// What the browser keeps, or a new one.
export function visitorOf(known) {
  secret = typeof known === "string" && known.length === LENGTH ? known : drawn();
  return secret;
}

export const visitor = () => secret;
