// Layers as boxes in columns, each a link; as many columns side by side as there is room for.
const HEIGHT = 44, BELOW = 14, BESIDE = 20, NARROWEST = 92, WIDEST = 168;

export default {
  template: `
    <div><svg class="op-graph" role="group" :aria-label="label" :viewBox="'0 0 ' + width + ' ' + drawn.height"
        :width="width" :height="drawn.height" @keydown="move">
      <path v-for="(d, i) in drawn.lines" :key="'l' + i" :d="d" class="op-graph-line"/>
      <path v-for="(d, i) in drawn.heads" :key="'h' + i" :d="d" class="op-graph-head"/>
      <a v-for="box in drawn.boxes" :key="box.id" :href="box.href" :aria-label="box.title"
          :aria-current="box.id === chosen ? 'true' : null" :class="{'op-graph-weights': box.weights}">
        <title>{{ box.title }}</title>
        <rect :x="box.x" :y="box.y" :width="box.w" :height="box.h" rx="7"/>
        <text :x="box.x + box.w / 2" :y="box.y + 19" text-anchor="middle">{{ fit(box.name, box.w) }}</text>{{ ' ' }}
        <text :x="box.x + box.w / 2" :y="box.y + 34" text-anchor="middle" class="op-graph-kind">{{ fit(box.kind, box.w + 12) }}</text>
      </a>
    </svg></div>`,
  props: { columns: Array, chosen: String, label: String },
  data: () => ({ width: 1000 }),
  mounted() {
    this.watcher = new ResizeObserver(() => { this.width = Math.max(240, Math.floor(this.$el.clientWidth)); });
    this.watcher.observe(this.$el);
  },
  beforeUnmount() { this.watcher.disconnect(); },
  computed: {
    drawn() {
      const all = this.columns, room = this.width - 2 - BESIDE / 2, fits = Math.floor(room / (NARROWEST + BESIDE));
      const bands = Math.ceil(all.length / Math.max(1, fits)), across = Math.ceil(all.length / bands);
      const w = Math.min(WIDEST, room / across - BESIDE), boxes = [], lines = [], heads = [];
      let top = 1, last = null;
      for (let first = 0; first < all.length; first += across) {
        const band = all.slice(first, first + across);
        const deepest = Math.max(...band.map((column) => column.length));
        band.forEach((column, i) => {
          const x = 1 + BESIDE + i * (w + BESIDE), entry = x - BESIDE / 2;
          column.forEach((layer, j) => {
            const y = top + j * (HEIGHT + BELOW), box = { ...layer, x, y, w, h: HEIGHT };
            if (j) {
              lines.push(`M${x + w / 2} ${y - BELOW}V${y - 5}`);
              heads.push(`M${x + w / 2} ${y - 1}l-4 -6h8z`);
            } else if (last) {
              const turn = i ? `H${entry}V${y + HEIGHT / 2}` : `h${BESIDE / 2}V${top - 12}H${entry}V${y + HEIGHT / 2}`;
              lines.push(`M${last.x + w} ${last.y + HEIGHT / 2}${turn}H${x - 5}`);
              heads.push(`M${x - 1} ${y + HEIGHT / 2}l-6 -4v8z`);
            }
            if (layer.skip) { // what came in goes past the layers between
              lines.push(`M${entry} ${top + HEIGHT / 2}V${y + HEIGHT / 2}H${x - 5}`);
              heads.push(`M${x - 1} ${y + HEIGHT / 2}l-6 -4v8z`);
            }
            boxes.push(box);
            last = box;
          });
        });
        top += deepest * (HEIGHT + BELOW) + 20;
      }
      return { boxes, lines, heads, height: top - 20 - BELOW + 2 };
    },
  },
  methods: {
    fit(text, width) {
      const most = Math.max(4, Math.floor((width - 8) / 6.6));
      if (text.length <= most) return text;
      const half = (most - 1) >> 1;
      return text.slice(0, half) + '…' + text.slice(-half);
    },
    move(event) { // arrows go from layer to layer in the order of their work
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      const links = [...this.$el.querySelectorAll('a')], next = links[links.indexOf(document.activeElement) + step];
      if (step && next) { event.preventDefault(); next.focus(); }
    },
  },
};
