// Words of two answers, side by side. Tokens are {row, text, role, special}; `row` is null where a token stands before
// the image and cannot see it.

export const isWord = (token) => token.row !== null && !token.special && token.role !== "template";

// The longest run of equal texts in order: pairs of places in one and other.
export function alignment(one, other) {
  const lengths = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--)
    for (let j = other.length - 1; j >= 0; j--)
      lengths[i][j] = one[i] === other[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  const pairs = [];
  for (let i = 0, j = 0; i < one.length && j < other.length;)
    if (one[i] === other[j]) pairs.push([i++, j++]);
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i++;
    else j++;
  return pairs;
}

const isAnswers = (view, { row, role }) =>
  role === "template" && view.tokens.some((token) => token.role === "answer" && token.row === row);

const texts = (tokens) => tokens.map((token) => token.text.trim());

// Which row of another view is the same word: the same text in the same order, question and answer by themselves. The
// first word of an answer has the row of the prompt's last token: it is that word, whatever the token.
export function counterparts(one, other) {
  const found = new Map();
  for (const role of ["question", "template", "answer"]) {
    const [here, there] = [one, other].map((view) =>
      view.tokens.filter((token) => token.row !== null && token.role === role && !isAnswers(view, token)),
    );
    for (const [i, j] of alignment(texts(here), texts(there))) found.set(here[i].row, there[j].row);
  }
  return found;
}

// Rows of the answers' words that the other side has not, for each side.
export function differingRows([one, other]) {
  if (!other) return [new Set()];
  const answers = [one, other].map((view) => view.tokens.filter((token) => token.role === "answer" && isWord(token)));
  const same = alignment(...answers.map(texts));
  return answers.map(
    (tokens, side) =>
      new Set(tokens.filter((_, place) => !same.some((pair) => pair[side] === place)).map((token) => token.row)),
  );
}
