// Takes the modules that the page brings from the page itself, through an import map: dozens of small requests would
// hold up the opening picture. All others, and all of them in a browser without import maps, come from their addresses.
{
  const modules = JSON.parse(document.getElementById("modules").textContent);
  const imports = {};
  for (const [name, text] of Object.entries(modules)) {
    const address = new URL(name, document.baseURI);
    // A module that was made from text has no folder that its imports could be relative to.
    const absolute = text.replace(/\bfrom "(\.[^"]+)"/g, (_, path) => 'from "' + new URL(path, address) + '"');
    const source = absolute + "//# sourceURL=" + address;
    imports[address] = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  }
  const map = document.createElement("script");
  map.type = "importmap";
  map.nonce = document.currentScript.nonce;
  map.textContent = JSON.stringify({ imports });
  document.currentScript.after(map);
}
