// An identity provider for tests: the certified implementation, whose sign-in page takes any name with any password.
// Arguments: the folder with its node_modules, its address, where browsers come back to.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, issuer, back] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/`));
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const people = { ann: ["staff"], bob: ["admins"], eve: ["visitors"] };
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "studio",
      client_secret: "a secret of the test",
      redirect_uris: [back],
      response_types: ["code"],
      grant_types: ["authorization_code"],
    },
  ],
  pkce: { required: () => true },
  claims: { openid: ["sub"], profile: ["name", "groups"] },
  cookies: { keys: ["a key of the test"] },
  findAccount: (context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `Person ${id}`, groups: people[id] ?? [], email: "same@example.org" }),
  }),
});
provider.listen(new URL(issuer).port, "127.0.0.1", () => console.log("ready"));
