// Tokens as a reader should see them: always text, never markup; what cannot be seen is spelled out.

const NAMED = {
  "\n": "↵",
  "\r": "CR",
  "\t": "⇥",
  "\u00a0": "NBSP",
  "\u00ad": "SHY",
  "\u200b": "ZWSP",
  "\u200c": "ZWNJ",
  "\u200d": "ZWJ",
  "\u200e": "LRM",
  "\u200f": "RLM",
  "\u2028": "LS",
  "\u2029": "PS",
  "\u202a": "LRE",
  "\u202b": "RLE",
  "\u202c": "PDF",
  "\u202d": "LRO",
  "\u202e": "RLO",
  "\u2060": "WJ",
  "\u2066": "LRI",
  "\u2067": "RLI",
  "\u2068": "FSI",
  "\u2069": "PDI",
  "\ufeff": "BOM",
};
// Control and format characters (so also those that reverse the direction of text), halves of pairs, odd spaces.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u00a0]/gu;
const SPECIAL = /^(<\|[^]*\|>|<\/?s>|<(bos|eos|pad|unk|mask|start_of_turn|end_of_turn)>|\[(CLS|SEP|PAD|UNK|MASK)\])$/;

/** A character that cannot be seen, by name. */
function spelled(char) {
  return NAMED[char] ?? `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** The token as plain text with nothing hidden in it. */
function plain(text) {
  return text === "" ? "(empty)" : text.replace(UNSEEN, spelled);
}

/** The token as nodes: plain text, and each hidden character as a small mark. */
function glyphs(text) {
  if (text === "") return [h("span", { class: "sael-d-mark" }, "empty")];
  const out = [];
  let at = 0;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > at) out.push(text.slice(at, match.index));
    out.push(h("span", { class: "sael-d-mark" }, spelled(match[0])));
    at = match.index + match[0].length;
  }
  if (at < text.length) out.push(text.slice(at));
  // a combining accent at the start would sit on the token before
  return /^\p{M}/u.test(text) ? ["◌", ...out] : out;
}

/** A token by itself, in a list: its leading space is a dot. */
function tag(text, extra = "") {
  const spaced = /^ +(?=\S)/.exec(text)?.[0].length ?? 0;
  const inner =
    text.trim() === "" && /^ +$/.test(text)
      ? [h("span", { class: "sael-d-mark" }, `${text.length > 1 ? `${text.length} ` : ""}space`)]
      : glyphs(text.slice(spaced));
  return h(
    "bdi",
    { class: `sael-d-tag ${extra}` },
    spaced ? h("span", { class: "sael-d-dot", "aria-hidden": "true" }, "·".repeat(spaced)) : null,
    inner,
  );
}

/** A token in running text, tinted by its activation. `a` is the strength of the tint, 0 to 1. */
function tokenNode({ text, value }, maximum, at, peak) {
  const share = value > 0 && maximum > 0 ? Math.min(1, value / maximum) : 0;
  const kinds = ["sael-tok sael-d-tok", peak && "sael-d-peak", SPECIAL.test(text) && "sael-d-special", value === null && "sael-d-unread"];
  // the weakest firing stays visible beside silence
  return h("span", { class: kinds.filter(Boolean).join(" "), "data-at": at, style: { "--a": share ? (0.1 + 0.9 * share).toFixed(3) : 0 } }, glyphs(text));
}

/** Tokens in running text, each that fires followed by its value. `peak` is the place of the strongest, or -1. */
function textNodes(tokens, maximum, peak) {
  return tokens.map((token, at) => {
    const node = tokenNode(token, maximum, at, at === peak);
    return token.value > 0
      ? h("span", { class: "sael-d-pair" }, node, h("sub", { class: "sael-d-val" }, number(token.value, 2)))
      : node;
  });
}

/** What an activation reads as. */
function strength(value, maximum) {
  if (value === null) return "not recorded here";
  if (!(value > 0)) return "does not fire";
  return maximum > 0 ? `${number(value)}, ${percent(value / maximum)} of the maximum` : number(value);
}

/** The card that says what is under the pointer or the keyboard's cursor. One for each dashboard. */
function makeCard(frame) {
  const node = h("div", { class: "sael-d-card", "aria-hidden": "true", hidden: true });
  frame.append(node);
  const hide = () => {
    node.hidden = true;
  };
  const show = (target, ...children) => {
    node.replaceChildren(...children.flat().filter(Boolean));
    node.hidden = false;
    const box = frame.getBoundingClientRect(),
      spot = target.getClientRects()[0] ?? target.getBoundingClientRect();
    const left = Math.max(4, Math.min(spot.left - box.left, box.width - node.offsetWidth - 4));
    const below = spot.bottom - box.top + 6;
    const above = spot.top - box.top - node.offsetHeight - 6;
    node.style.left = `${left}px`;
    node.style.top = `${below + node.offsetHeight > box.height && above > 0 ? above : below}px`;
  };
  return { show, hide };
}

/** Put `text` on the clipboard; true when that worked. */
async function copyText(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // pages opened from a file, and notebooks on plain http, have no clipboard: the old way
    const area = h("textarea", { class: "sael-hidden", value: text });
    near.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

const ICONS = {
  previous: "M10 3 5 8l5 5",
  next: "m6 3 5 5-5 5",
  back: "M6 3 2.5 6.5 6 10M2.5 6.5H10a3.5 3.5 0 0 1 0 7H7",
  random: "M1.5 4.5H4l6 7h4M12 9.5l2 2-2 2M1.5 11.5H4l2-2.3M8.2 6.6 10 4.5h4M12 2.5l2 2-2 2",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  list: "M2 4h12M2 8h12M2 12h12",
  wrap: "M2 4h12M2 8h10a2.4 2.4 0 0 1 0 5H8m1.8-2L8 13l1.8 2M2 12h3",
  down: "M8 3v10M4 9l4 4 4-4",
};

/** A line drawing, 16 by 16. */
function icon(name) {
  return svg("svg", { class: "sael-d-icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}
