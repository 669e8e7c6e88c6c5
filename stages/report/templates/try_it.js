// "Try it": networks computed in this page from their own weights, and the digit that they are shown.
// A tensor is {shape, values}; its last axis varies fastest. try_it.py says which layers and arguments come here.

const total = (numbers) => numbers.reduce((sum, number) => sum + number, 0);
const count = (shape) => shape.reduce((product, length) => product * length, 1);

// Activations

const SELU = [1.0507009873554805, 1.6732632423543772];
const ACTIVATIONS = {
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  exponential: Math.exp,
  leaky_relu: (x) => (x > 0 ? x : 0.2 * x),
  linear: (x) => x,
  relu: (x) => Math.max(x, 0),
  relu6: (x) => Math.min(Math.max(x, 0), 6),
  selu: (x) => SELU[0] * (x > 0 ? x : SELU[1] * Math.expm1(x)),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  silu: (x) => x / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  softsign: (x) => x / (1 + Math.abs(x)),
  tanh: Math.tanh,
};

function activate({ shape, values }, name) {
  if (name === "softmax") return softmax({ shape, values });
  return { shape, values: values.map(ACTIVATIONS[name]) };
}

function softmax({ shape, values }) {
  const made = new Float64Array(values.length);
  for (let start = 0; start < values.length; start += shape.at(-1)) {
    const row = values.subarray(start, start + shape.at(-1));
    const most = Math.max(...row);
    const powers = row.map((x) => Math.exp(x - most));
    made.set(powers.map((power) => power / total(powers)), start);
  }
  return { shape, values: made };
}

// Windows over an image of (rows, columns, channels)

// Where each window starts along an axis. "same" pads, the smaller half in front, as TensorFlow does.
function starts(length, window, stride, padding) {
  const same = padding === "same";
  const places = Math.ceil((same ? length : length - window + 1) / stride);
  const padded = same ? Math.max((places - 1) * stride + window - length, 0) : 0;
  return Array.from({ length: places }, (_, place) => place * stride - Math.floor(padded / 2));
}

// Calls visit(place of the window, place in the window, where the pixel's channels start) for each pixel in each window.
function slide([height, width, channels], [rows, columns], { strides, padding }, visit) {
  const tops = starts(height, rows, strides[0], padding);
  const lefts = starts(width, columns, strides[1], padding);
  tops.forEach((top, i) => lefts.forEach((left, j) => {
    for (let row = Math.max(0, -top); row < Math.min(rows, height - top); row++) {
      for (let column = Math.max(0, -left); column < Math.min(columns, width - left); column++) {
        const pixel = ((top + row) * width + left + column) * channels;
        visit(i * lefts.length + j, row * columns + column, pixel);
      }
    }
  }));
  return [tops.length, lefts.length];
}

// Joins the values of each channel in each window, starting from `first`; also gives how many there were.
function pool({ shape, values }, layer, first, join) {
  const joined = [], counts = [], channels = shape[2];
  const places = slide(shape, layer.pool_size, layer, (place, _, pixel) => {
    for (let channel = 0; channel < channels; channel++) {
      const at = place * channels + channel;
      joined[at] = join(joined[at] ?? first, values[pixel + channel]);
      counts[at] = (counts[at] ?? 0) + 1;
    }
  });
  return { shape: [...places, channels], values: Float64Array.from(joined), counts };
}

function averagePool(input, layer) {
  const { shape, values, counts } = pool(input, layer, 0, (sum, x) => sum + x);
  return { shape, values: values.map((sum, at) => sum / counts[at]) };
}

const maxPool = (input, layer) => pool(input, layer, -Infinity, Math.max);

// One window as large as the image.
const whole = ({ shape }) => ({ pool_size: shape.slice(0, 2), strides: [1, 1], padding: "valid" });
const flat = ({ values }) => ({ shape: [values.length], values });

// Layers: each takes a tensor, and its arguments and weights by Keras' names

function dense({ shape, values }, { activation, weights: { kernel, bias } }) {
  const [inputs, units] = kernel.shape;
  const rows = values.length / inputs;
  const sums = Float64Array.from({ length: rows * units }, (_, at) => (bias ? bias.values[at % units] : 0));
  for (let row = 0; row < rows; row++) {
    for (let input = 0; input < inputs; input++) {
      for (let unit = 0; unit < units; unit++) {
        sums[row * units + unit] += values[row * inputs + input] * kernel.values[input * units + unit];
      }
    }
  }
  return activate({ shape: [...shape.slice(0, -1), units], values: sums }, activation);
}

function convolve({ shape, values }, layer) {
  const { kernel, bias } = layer.weights;
  const [rows, columns, channels, filters] = kernel.shape;
  const sums = [];
  const places = slide(shape, [rows, columns], layer, (place, tap, pixel) => {
    for (let filter = 0; filter < filters; filter++) {
      let sum = sums[place * filters + filter] ?? (bias ? bias.values[filter] : 0);
      for (let channel = 0; channel < channels; channel++) {
        sum += values[pixel + channel] * kernel.values[(tap * channels + channel) * filters + filter];
      }
      sums[place * filters + filter] = sum;
    }
  });
  return activate({ shape: [...places, filters], values: Float64Array.from(sums) }, layer.activation);
}

function normalise({ shape, values }, { epsilon, weights }) {
  const { gamma, beta, moving_mean: mean, moving_variance: variance } = weights;
  const channels = shape.at(-1);
  const channel = (x, at) => {
    const c = at % channels;
    const scale = (gamma ? gamma.values[c] : 1) / Math.sqrt(variance.values[c] + epsilon);
    return (x - mean.values[c]) * scale + (beta ? beta.values[c] : 0);
  };
  return { shape, values: values.map(channel) };
}

function rectify({ shape, values }, { max_value: most, negative_slope: slope, threshold }) {
  const bend = (x) => (x >= threshold ? Math.min(x, most ?? Infinity) : slope * (x - threshold));
  return { shape, values: values.map(bend) };
}

const LAYERS = {
  Activation: (input, { activation }) => activate(input, activation),
  AveragePooling2D: averagePool,
  BatchNormalization: normalise,
  Conv2D: convolve,
  Dense: dense,
  Flatten: flat,
  GlobalAveragePooling2D: (input) => flat(averagePool(input, whole(input))),
  GlobalMaxPooling2D: (input) => flat(maxPool(input, whole(input))),
  Identity: (input) => input,
  LeakyReLU: (input, { negative_slope }) => rectify(input, { negative_slope, threshold: 0 }),
  MaxPooling2D: maxPool,
  ReLU: rectify,
  Softmax: softmax,
};

// The probabilities of the ten digits; `pixels` are bytes, row by row.
function probabilities(network, pixels) {
  const image = { shape: [28, 28, 1], values: Float64Array.from(pixels, (byte) => Math.fround(byte / 255)) };
  return network.layers.reduce((tensor, layer) => LAYERS[layer.type](tensor, layer), image).values;
}

// A drawing as MNIST's images were made: the ink scaled to fit 20 x 20, its centre of mass in the middle of 28 x 28

// The smallest box around all ink, or null.
function inkBox({ width, height, values }) {
  const rows = [], columns = [];
  values.forEach((value, at) => {
    if (value) { rows.push(Math.floor(at / width)); columns.push(at % width); }
  });
  if (!rows.length) return null;
  const least = (numbers) => numbers.reduce((a, b) => Math.min(a, b));
  const most = (numbers) => numbers.reduce((a, b) => Math.max(a, b));
  const left = least(columns), top = rows[0];
  return { left, top, width: most(columns) - left + 1, height: most(rows) - top + 1 };
}

// For each pixel of `length` that `size` are scaled to: the old pixels under it, each with the share that it covers.
function covered(size, length) {
  return Array.from({ length }, (_, place) => {
    const from = (place * size) / length, to = ((place + 1) * size) / length, parts = [];
    for (let old = Math.floor(from); old < Math.min(to, size); old++) {
      parts.push([old, (Math.min(old + 1, to) - Math.max(old, from)) / (to - from)]);
    }
    return parts;
  });
}

// The ink in `box`, scaled to the width and height; each new pixel is the mean of what it covers.
function scaled(image, box, width, height) {
  const columns = covered(box.width, width), rows = covered(box.height, height);
  const mean = (row, column) => total(rows[row].flatMap(([y, tall]) => columns[column].map(
    ([x, wide]) => tall * wide * image.values[(box.top + y) * image.width + box.left + x])));
  const values = Float64Array.from({ length: width * height }, (_, at) => mean(Math.floor(at / width), at % width));
  return { width, height, values };
}

// The centre of mass, in pixels from the left and the top edge; a pixel's own is half a pixel from its edges.
function centre({ width, values }) {
  const mass = total(values);
  const mean = (along) => values.reduce((sum, value, at) => sum + value * (along(at) + 0.5), 0) / mass;
  return [mean((at) => at % width), mean((at) => Math.floor(at / width))];
}

// 28 x 28 bytes of an image {width, height, values}: 0 is the background, 255 is ink.
function fitted(image) {
  const made = new Uint8Array(28 * 28), box = inkBox(image);
  if (!box) return made;
  const factor = 20 / Math.max(box.width, box.height);
  const [width, height] = [box.width, box.height].map((length) => Math.max(1, Math.round(length * factor)));
  const digit = scaled(image, box, width, height);
  const [left, top] = centre(digit).map((place) => Math.ceil(14 - place)); // all of MNIST's centres are in [14, 15)
  digit.values.forEach((value, at) => {
    const x = left + (at % width), y = top + Math.floor(at / width);
    if (x >= 0 && x < 28 && y >= 0 && y < 28) made[y * 28 + x] = Math.round(value);
  });
  return made;
}

// The page

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// The numbers of a weight, float32 in little endian.
function decode({ shape, values }) {
  const view = new DataView(bytes(values).buffer);
  return { shape, values: Float32Array.from({ length: count(shape) }, (_, at) => view.getFloat32(4 * at, true)) };
}

function decodeNetwork({ name, layers }) {
  const weights = (layer) => Object.fromEntries(Object.entries(layer.weights).map(([key, each]) => [key, decode(each)]));
  return { name, layers: layers.map((layer) => ({ ...layer, weights: weights(layer) })) };
}

function showBar(bar, share, text, best = false) {
  bar.style.setProperty("--p", share);
  bar.lastElementChild.textContent = text;
  bar.classList.toggle("best", best);
}

// Shows one network's probabilities as bars, and gives the highest as a text.
function show(network, pixels) {
  const found = [...probabilities(network, pixels)];
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  const best = found.indexOf(Math.max(...found));
  document.querySelectorAll(`[data-network="${network.name}"] li`).forEach((bar, digit) => {
    showBar(bar, found[digit], percent(found[digit]), digit === best);
  });
  return `${network.name}: ${best} (${percent(found[best])})`;
}

// Grey levels as a canvas has them.
function paint(canvas, pixels) {
  const image = new ImageData(28, 28);
  pixels.forEach((value, at) => image.data.set([value, value, value, 255], 4 * at));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function tryIt(data) {
  const networks = data.networks.map(decodeNetwork), images = bytes(data.images);
  const [pad, seen, list, said] = ["pad", "seen", "image", "said"].map((id) => document.getElementById(`try-${id}`));
  const pen = pad.getContext("2d", { willReadFrequently: true });
  Object.assign(pen, { fillStyle: "#000", strokeStyle: "#fff", lineWidth: 22, lineCap: "round", imageSmoothingEnabled: false });
  let last = null; // where the pen is, while it is down

  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  const clear = () => {
    pen.fillRect(0, 0, pad.width, pad.height);
    paint(seen, new Uint8Array(28 * 28));
    document.querySelectorAll("[data-network] li").forEach((bar) => showBar(bar, 0, ""));
    said.textContent = "";
  };
  const ask = (pixels) => {
    paint(seen, pixels);
    said.textContent = `${networks.map((network) => show(network, pixels)).join("; ")}.`;
  };
  const stroke = (event) => {
    if (!last) return;
    const next = place(event);
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...next);
    pen.stroke();
    last = next;
  };
  const askAboutDrawing = () => {
    last = null;
    const { width, height, data: colours } = pen.getImageData(0, 0, pad.width, pad.height);
    ask(fitted({ width, height, values: Float64Array.from({ length: width * height }, (_, at) => colours[4 * at]) }));
  };

  pad.addEventListener("pointerdown", (event) => {
    if (list.value) clear();
    list.value = "";
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(event);
  });
  pad.addEventListener("pointermove", (event) => (event.getCoalescedEvents?.() ?? [event]).forEach(stroke));
  pad.addEventListener("pointerup", askAboutDrawing);
  pad.addEventListener("pointercancel", () => { last = null; });
  document.getElementById("try-clear").addEventListener("click", () => { list.value = ""; clear(); });
  list.addEventListener("change", () => {
    clear();
    if (!list.value) return;
    const start = Number(list.value) * 28 * 28;
    ask(images.subarray(start, start + 28 * 28));
    pen.drawImage(seen, 0, 0, pad.width, pad.height);
  });
  clear();
  document.getElementById("try-it").hidden = false;
}

const embedded = document.getElementById("try-data");
if (embedded) tryIt(JSON.parse(embedded.textContent));
