// Bytes and numbers that the server sends as text.

const FLOAT16 = (() => {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
})();

export function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// Little-endian float16, behind "k:" where it was multiplied by 2 to the power k -> Float32Array.
export function float16Of(text) {
  const [bits, power = 0] = text.split(":").reverse();
  const bytes = bytesOf(bits);
  const values = new Float32Array(bytes.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = FLOAT16[bytes[2 * i] | (bytes[2 * i + 1] << 8)] * 2 ** -power;
  return values;
}
