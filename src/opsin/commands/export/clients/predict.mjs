// Classify images: node predict.mjs IMAGE... [--check]; first: npm install --ignore-scripts
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import ort from "onnxruntime-node";
import sharp from "sharp";

const here = (name) => new URL(name, import.meta.url);
const about = JSON.parse(readFileSync(here("classes.json"), "utf8"));
const { width, height, channels, classes } = about;
const round = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // as Python does

// Returns an image as the network wants it: height × width × channels bytes.
async function prepare(file) {
  const read = sharp(file).autoOrient().flatten({ background: "white" }).toColourspace("srgb");
  let { data, info } = await read.removeAlpha().raw().toBuffer({ resolveWithObject: true });
  if (channels === 1) // as Pillow makes grey: weights of ITU-R 601
    data = Uint8Array.from({ length: info.width * info.height }, (_, i) =>
      (19595 * data[3 * i] + 38470 * data[3 * i + 1] + 7471 * data[3 * i + 2] + 32768) >> 16);
  let [wide, high] = [info.width, info.height];
  if (wide !== width || high !== height) {
    const scale = Math.min(width / wide, height / high);
    const fit = about.resize === "fill" ? "cover" : "fill"; // cut what stands out, or stretch
    const inner = about.resize !== "fit" ? [width, height] // keep the whole image
      : [Math.max(1, round(wide * scale)), Math.max(1, round(high * scale))];
    data = await sharp(data, { raw: { width: wide, height: high, channels } })
      .resize(...inner, { fit, kernel: "linear" })
      .toColourspace(channels === 1 ? "b-w" : "srgb").raw().toBuffer();
    [wide, high] = inner;
  }
  // What is left over gets the colour of the border.
  const whole = new Uint8Array(width * height * channels);
  const [top, left] = [(height - high) >> 1, (width - wide) >> 1];
  for (let c = 0; c < channels; c++) {
    const at = (y, x) => data[(y * wide + x) * channels + c];
    const edge = [];
    for (let x = 0; x < wide; x++) edge.push(at(0, x), at(high - 1, x));
    for (let y = 1; y < high - 1; y++) edge.push(at(y, 0), at(y, wide - 1));
    const border = edge.sort((a, b) => a - b)[edge.length >> 1];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const inside = y >= top && y < top + high && x >= left && x < left + wide;
      whole[(y * width + x) * channels + c] = inside ? at(y - top, x - left) : border;
    }
  }
  return whole;
}

const words = process.argv.slice(2);
const expected = words.includes("--check") ? JSON.parse(readFileSync(here("expected.json"), "utf8")) : {};
const session = await ort.InferenceSession.create(readFileSync(here("classifier.onnx")));
for (const file of words.filter((word) => word !== "--check")) {
  const images = new ort.Tensor("uint8", await prepare(file), [1, height, width, channels]);
  const answer = (await session.run({ images }, ["probabilities"])).probabilities.data;
  const best = answer.indexOf(Math.max(...answer));
  let line = `${file}\t${classes[best]}\t${(100 * answer[best]).toFixed(1)}%`;
  const wanted = expected[basename(file)];
  if (wanted) {
    const apart = Math.max(...answer.map((share, k) => Math.abs(share - wanted.probabilities[k])));
    line += `\texpected ${wanted.label}, largest difference ${apart.toPrecision(1)}`;
    if (classes[best] !== wanted.label) process.exitCode = 1;
  }
  console.log(line);
}
