// Which model has which colour: a matter of the names alone, so that a reload and another's screenshot agree.

/** 32 bits that look random, of a text: FNV-1a, mixed once more as short texts need. */
function hash(text) {
  let bits = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) bits = Math.imul(bits ^ text.charCodeAt(i), 0x01000193);
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/**
 * A colour from 0 to `number` - 1 for each group, by key: none twice while there are enough. Every name ranks the
 * colours in an order of its own; the strongest wishes are met first, so that one name more changes few others. The
 * upstream decides only between groups of one name, since its port may be another each time.
 */
export function coloursOf(groups, number) {
  const wishes = groups.flatMap(({ key, model }) =>
    Array.from({ length: number }, (_, colour) => ({ key, colour, weight: hash(`${colour} ${model}`) })),
  );
  wishes.sort((a, b) => b.weight - a.weight || (a.key < b.key ? -1 : 1));
  const [found, taken] = [new Map(), new Set()];
  for (const { key, colour } of wishes) {
    if (found.has(key) || taken.has(colour)) continue;
    found.set(key, colour);
    taken.add(colour);
  }
  return found;
}
