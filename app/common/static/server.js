// What the server answers.

const NO_ANSWER = { error: "The server did not answer. Try again." };

// A call of a server function ends with an error, or with nothing at all where the server was started anew since.
export const answerOf = async (call, otherwise = NO_ANSWER) => (await call.catch(() => null)) || otherwise;
