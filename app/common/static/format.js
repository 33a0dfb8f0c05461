// Numbers as a person reads them.

export function percent(value) {
  const share = 100 * value;
  if (share === 0) return "0 %";
  if (share >= 10) return share.toFixed(0) + " %";
  if (share >= 1) return share.toFixed(1) + " %";
  if (share >= 0.01) return share.toFixed(2) + " %";
  return "< 0.01 %";
}

// With a true minus sign.
export const signedPercent = (value) => (value < 0 ? "−" + percent(-value) : percent(value));

// How many times an even map's weight.
export const multiple = (value) => (value >= 10 ? value.toFixed(0) : value.toFixed(1)) + " ×";

export const count = (number, one, many) => number + " " + (number === 1 ? one : many);
