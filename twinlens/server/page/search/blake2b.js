// Compute a picture's id (BLAKE2b-128, RFC 7693) from its bytes. The server cannot: large pictures
// are sent scaled down, and no response contains their id.
// 64-bit words are pairs of 32-bit halves, low half first: BigInt is about fifty times slower.

const IV = new Uint32Array([
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
]);
const SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const BLOCK = 128;
const BYTES = 16;

/** v[a] += v[b], all of 64 bits. */
function add(v, a, low, high) {
  const sum = (v[a] >>> 0) + (low >>> 0);
  v[a + 1] = v[a + 1] + high + (sum > 0xffffffff ? 1 : 0);
  v[a] = sum;
}

/** v[a] = rotate right (v[a] xor v[b]) by 32, 24, 16 or 63 bits. */
function turn(v, a, b, by) {
  const low = v[a] ^ v[b];
  const high = v[a + 1] ^ v[b + 1];
  if (by === 32) {
    v[a] = high;
    v[a + 1] = low;
  } else if (by === 63) {
    v[a] = (low << 1) | (high >>> 31);
    v[a + 1] = (high << 1) | (low >>> 31);
  } else {
    v[a] = (low >>> by) | (high << (32 - by));
    v[a + 1] = (high >>> by) | (low << (32 - by));
  }
}

function mix(v, m, a, b, c, d, x, y) {
  add(v, a, v[b], v[b + 1]);
  add(v, a, m[2 * x], m[2 * x + 1]);
  turn(v, d, a, 32);
  add(v, c, v[d], v[d + 1]);
  turn(v, b, c, 24);
  add(v, a, v[b], v[b + 1]);
  add(v, a, m[2 * y], m[2 * y + 1]);
  turn(v, d, a, 16);
  add(v, c, v[d], v[d + 1]);
  turn(v, b, c, 63);
}

function compress(state, m, length, last) {
  const v = new Uint32Array(32);
  v.set(state);
  v.set(IV, 16);
  v[24] ^= length >>> 0;
  v[25] ^= Math.floor(length / 0x100000000);
  if (last) {
    v[28] = ~v[28];
    v[29] = ~v[29];
  }
  for (let round = 0; round < 12; round += 1) {
    const s = SIGMA[round % 10];
    mix(v, m, 0, 8, 16, 24, s[0], s[1]);
    mix(v, m, 2, 10, 18, 26, s[2], s[3]);
    mix(v, m, 4, 12, 20, 28, s[4], s[5]);
    mix(v, m, 6, 14, 22, 30, s[6], s[7]);
    mix(v, m, 0, 10, 20, 30, s[8], s[9]);
    mix(v, m, 2, 12, 22, 24, s[10], s[11]);
    mix(v, m, 4, 14, 16, 26, s[12], s[13]);
    mix(v, m, 6, 8, 18, 28, s[14], s[15]);
  }
  for (let at = 0; at < 16; at += 1) state[at] ^= v[at] ^ v[at + 16];
}

/** The hash as 32 hex digits. */
export function blake2b(bytes) {
  const state = IV.slice();
  state[0] ^= 0x01010000 ^ BYTES;
  const block = new Uint8Array(BLOCK);
  const words = new DataView(block.buffer);
  const m = new Uint32Array(32);
  let at = 0;
  do {
    const end = Math.min(at + BLOCK, bytes.length);
    block.fill(0).set(bytes.subarray(at, end));
    for (let word = 0; word < 32; word += 1) m[word] = words.getUint32(4 * word, true);
    compress(state, m, end, end === bytes.length);
    at = end;
  } while (at < bytes.length);
  const out = new DataView(new ArrayBuffer(BYTES));
  for (let word = 0; word < BYTES / 4; word += 1) out.setUint32(4 * word, state[word], true);
  return Array.from(new Uint8Array(out.buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
