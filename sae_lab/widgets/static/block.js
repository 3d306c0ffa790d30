// Blocks of named arrays, which Python's widgets/_blocks.py writes, read back. For any widget with `_parts = ("block", ...)`:
//
//   const { header, arrays } = await openBlock(model.get("data"));   // a trait made with `data = binary()`
//   arrays.x            a typed array, with its shape in arrays.x.shape, e.g. [100, 3]
//   slice(arrays.x, 7)  row 7 of it
//   header.words[arrays.word[i]]   a text of the block's table of words; word 0 is ""; header.name etc. as written

const BLOCK_TYPES = {
  f4: Float32Array,
  f8: Float64Array,
  i4: Int32Array,
  u1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  u4: Uint32Array,
};

/** Unpack a block: the header's entries, and the arrays by name (each with its shape). */
async function openBlock(view) {
  const buffer = await gunzip(view),
    text = new TextDecoder();
  if (text.decode(new Uint8Array(buffer, 0, 4)) !== "SAEL") throw new Error("The data of this widget is damaged.");
  const start = 8 + new DataView(buffer).getUint32(4, true);
  const { arrays: places, ...header } = JSON.parse(text.decode(new Uint8Array(buffer, 8, start - 8)));
  const arrays = {};
  for (const { name, type, shape, at } of places) {
    arrays[name] = new BLOCK_TYPES[type](
      buffer,
      start + at,
      shape.reduce((a, b) => a * b, 1),
    );
    arrays[name].shape = shape;
  }
  return { header, arrays };
}

/** One row of an array of shape (rows, ...). */
function slice(array, row) {
  const width = array.length / array.shape[0];
  return array.subarray(row * width, (row + 1) * width);
}
