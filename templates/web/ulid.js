// A ULID: 48 bits of milliseconds and 80 random bits in Crockford's base 32, 26 characters.

const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

export function ulid(now = Date.now()) {
  let time = "";
  for (let i = 0; i < 10; i++) {
    time = digits[now % 32] + time;
    now = Math.floor(now / 32);
  }
  const random = crypto.getRandomValues(new Uint8Array(16)); // five of each byte's eight bits are used
  return time + Array.from(random, (byte) => digits[byte & 31]).join("");
}
