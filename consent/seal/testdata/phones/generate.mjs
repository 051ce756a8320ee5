// Writes numbers.txt: telephone numbers as people write them, and what google-libphonenumber makes of each.
//   npm install && node generate.mjs > numbers.txt
import lib from 'google-libphonenumber';

const util = lib.PhoneNumberUtil.getInstance();
const { E164, NATIONAL, INTERNATIONAL, RFC3966 } = lib.PhoneNumberFormat;
const regions = ['NL', 'BE', 'DE', 'FR', 'GB', 'IE', 'ES', 'IT', 'PL', 'SE', 'NO', 'CH', 'AT', 'US', 'CA', 'BR', 'AR', 'MX', 'IN', 'JP', 'AU', 'ZA'];

let state = 20261127;
const random = n => (state = (Math.imul(state, 1103515245) + 12345) >>> 0, Math.floor(state / 2 ** 32 * n));

// The last digits of an example number are drawn anew; not all that comes of it exists.
function draw(region) {
  const types = [lib.PhoneNumberType.MOBILE, lib.PhoneNumberType.FIXED_LINE];
  const example = util.getExampleNumberForType(region, types[random(2)]) ?? util.getExampleNumber(region);
  let digits = String(example.getNationalNumber());
  const n = 2 + random(5);
  digits = digits.slice(0, -n) + Array.from({ length: n }, () => random(10)).join('');
  const number = example.clone();
  number.setNationalNumber(Number(digits));
  return number;
}

const spellings = [
  n => util.format(n, NATIONAL),
  n => util.format(n, INTERNATIONAL),
  n => util.format(n, E164),
  n => util.format(n, RFC3966),
  n => util.format(n, NATIONAL).replace(/\D/g, ''),
  n => util.format(n, INTERNATIONAL).replace(/[ -]/g, '.'),
  n => ' ' + util.format(n, NATIONAL) + ' ',
  n => util.format(n, NATIONAL).replace(/[0-9]/g, d => String.fromCharCode(0xff10 + Number(d))), // full width
  n => util.format(n, INTERNATIONAL) + ' ext. ' + random(100),
  n => util.format(n, NATIONAL).slice(0, -3), // too short
];

console.log(`# google-libphonenumber 3.2.47, seed 20261127. region | as it is written | E.164, or ! for no number that can exist`);
for (let i = 0; i < 2200; i++) {
  const region = regions[i % regions.length];
  const input = spellings[random(spellings.length)](draw(region));
  let e164 = '!';
  try {
    const parsed = util.parse(input, region);
    if (util.isValidNumber(parsed)) e164 = util.format(parsed, E164);
  } catch { /* no number */ }
  console.log(`${region} | ${input} | ${e164}`);
}
