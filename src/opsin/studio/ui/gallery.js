// Images in rows: of any number, only those in sight are asked for and shown.
const GAP = 12;
const AHEAD = 60;

export default {
  template: `
    <div class="gallery" :style="{ '--side': side + 'px', maxHeight: height ? height + 'px' : null }" ref="port">
      <div class="gallery-track" :style="{ height: tall + 'px' }" ref="track" :role="choosable ? 'listbox' : 'group'"
          :aria-label="label" :aria-multiselectable="choosable ? 'true' : null" :tabindex="count ? null : 0">
        <div v-for="i in inSight" :key="i" class="gallery-item" :class="kind(i)" :data-at="i" :style="placed(i)"
            :role="choosable ? 'option' : openable ? 'button' : 'img'" :aria-selected="choosable ? String(isChosen(i)) : null"
            :aria-label="items[i] ? named(items[i]) : 'Photograph ' + (i + 1)" :aria-setsize="choosable ? count : null"
            :aria-posinset="choosable ? i + 1 : null" :tabindex="choosable || openable ? (i === at ? 0 : -1) : null"
            :title="items[i]?.alt" :draggable="draggable ? 'true' : null" @dragstart="dragged($event, i)"
            @click="clicked($event, i)" @keydown="pressed($event, i)" @focus="at = i">
          <span class="gallery-frame"><img v-if="items[i]" :src="items[i].src" alt="" decoding="async" draggable="false" @load="loaded">
            <b v-if="items[i]?.mark" aria-hidden="true">{{ signs[items[i].mark] }}</b>
            <i v-if="choosable" class="gallery-tick" aria-hidden="true" @click.stop="tick($event, i)">✓</i></span>
          <span v-if="captions" class="gallery-caption" aria-hidden="true">{{ items[i]?.caption }}</span>
        </div>
      </div>
    </div>`,
  props: {
    label: String, count: Number, first: Array, version: Number, chosen: Array, choosable: Boolean, openable: Boolean,
    draggable: Boolean, captions: Boolean, side: Number, height: Number,
  },
  data() {
    return {
      items: {}, columns: 1, low: 0, high: 0, at: 0, from: 0,
      signs: { right: '✓', wrong: '✗', corrected: '→', 'left out': '–' },
    };
  },
  computed: {
    step() { return this.side + GAP + (this.captions ? 40 : 0); },
    tall() { return Math.max(0, this.rows * this.step - GAP); },
    rows() { return Math.ceil(this.count / this.columns); },
    inSight() {
      const last = Math.min(this.count, this.high);
      return Array.from({ length: Math.max(0, last - this.low) }, (_, i) => this.low + i);
    },
  },
  watch: {
    version() { this.take(0, this.first); this.stale = new Set(Object.keys(this.items).map(Number)); this.first.forEach((_, i) => this.stale.delete(i)); this.look(); },
    count() { if (this.at >= this.count) this.at = this.from = 0; this.$nextTick(this.look); },
  },
  created() {
    this.asked = new Set();
    this.stale = new Set();
    this.take(0, this.first);
  },
  mounted() {
    this.soon = () => { this.frame ??= requestAnimationFrame(() => { this.frame = null; this.look(); }); };
    for (const type of ['scroll', 'resize']) window.addEventListener(type, this.soon, { capture: true, passive: true });
    this.watcher = new ResizeObserver(this.soon);
    this.watcher.observe(this.$refs.port);
    this.seen = new IntersectionObserver(this.soon); // what is above it may go
    this.seen.observe(this.$refs.port);
    this.look();
  },
  beforeUnmount() {
    for (const type of ['scroll', 'resize']) window.removeEventListener(type, this.soon, { capture: true });
    this.watcher.disconnect();
    this.seen.disconnect();
    clearTimeout(this.timer);
  },
  methods: {
    look() { // which images are in sight, and which of these are not here yet
      const width = this.$refs.port?.clientWidth;
      if (!width) return;
      this.columns = Math.max(1, Math.floor((width + GAP) / (this.side + GAP)));
      const track = this.$refs.track.getBoundingClientRect();
      const port = this.$refs.port.getBoundingClientRect();
      const [top, bottom] = [Math.max(0, port.top), Math.min(window.innerHeight, this.height ? port.bottom : Infinity)];
      const row = (y) => Math.floor((y - track.top) / this.step);
      this.low = Math.max(0, row(top) - 2) * this.columns;
      this.high = Math.max(0, row(bottom) + 3) * this.columns;
      const wanted = this.inSight.filter((i) => (!this.items[i] || this.stale.has(i)) && !this.asked.has(i));
      if (!wanted.length) return;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.ask(), 40);
    },
    ask() {
      const wanted = this.inSight.filter((i) => (!this.items[i] || this.stale.has(i)) && !this.asked.has(i));
      if (!wanted.length) return;
      const [low, high] = [wanted[0], Math.min(this.count, Math.max(wanted.at(-1) + 1, wanted[0] + AHEAD))];
      for (let i = low; i < high; i += 1) this.asked.add(i);
      this.$emit('need', { low, high, version: this.version });
    },
    take(low, images) {
      images.forEach((image, i) => { this.items[low + i] = image; this.asked?.delete(low + i); this.stale?.delete(low + i); });
    },
    placed(i) {
      return { transform: `translate(${(i % this.columns) * (this.side + GAP)}px, ${Math.floor(i / this.columns) * this.step}px)` };
    },
    isChosen(i) { return this.chosen.some(([low, high]) => low <= i && i < high); },
    kind(i) {
      const mark = this.items[i]?.mark;
      return [mark ? 'mark-' + mark.replace(' ', '-') : '', this.isChosen(i) ? 'chosen' : '', this.chosen.length ? 'choosing' : ''];
    },
    named(image) { return image.caption && !image.alt.includes(image.caption) ? `${image.caption}, ${image.alt}` : image.alt; },
    loaded(event) { // small images are enlarged without smoothing
      const image = event.target;
      image.classList.toggle('pixel', Math.max(image.naturalWidth, image.naturalHeight) * 1.5 < this.side);
    },
    choose(low, high, how) { this.$emit('choose', { low, high, how }); },
    tick(event, i) {
      this.at = i;
      if (event.shiftKey) this.choose(Math.min(this.from, i), Math.max(this.from, i) + 1, 'add');
      else { this.from = i; this.choose(i, i + 1, 'toggle'); }
    },
    clicked(event, i) {
      this.at = i;
      const choosing = this.choosable && (!this.openable || event.shiftKey || event.ctrlKey || event.metaKey);
      if (choosing) this.tick(event, i);
      else if (this.openable) this.$emit('open', i);
    },
    dragged(event, i) {
      event.dataTransfer.setData('text/plain', this.items[i]?.caption ?? '');
      event.dataTransfer.effectAllowed = 'move';
      if (!this.isChosen(i)) { this.from = i; this.choose(i, i + 1, 'only'); }
    },
    async focus(i) {
      this.at = i;
      const row = Math.floor(i / this.columns);
      const track = this.$refs.track.getBoundingClientRect();
      const top = track.top + row * this.step;
      if (this.height) this.$refs.port.scrollTop = Math.max(0, row * this.step - this.step);
      else if (top < 80 || top + this.step > window.innerHeight) window.scrollBy(0, top - window.innerHeight / 3);
      this.look();
      await this.$nextTick();
      this.$el.querySelector(`[data-at="${i}"]`)?.focus();
    },
    pressed(event, i) {
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns };
      const to = { Home: 0, End: this.count - 1 }[event.key] ?? (event.key in moves ? i + moves[event.key] : undefined);
      if (to !== undefined) {
        if (to >= 0 && to < this.count) {
          if (event.shiftKey && this.choosable) this.choose(Math.min(this.from, to), Math.max(this.from, to) + 1, 'add');
          this.focus(to);
        }
      } else if (event.key === 'Enter' && this.openable) {
        this.$emit('open', i);
      } else if ([' ', 'Enter'].includes(event.key) && this.choosable) {
        this.tick(event, i);
      } else if (event.key === 'a' && (event.ctrlKey || event.metaKey) && this.choosable) {
        this.choose(0, this.count, 'add');
      } else if (event.key === 'Escape' && this.chosen.length) {
        this.choose(0, 0, 'only');
      } else if (event.key.length === 1 || event.key === 'Delete') {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        this.$emit('key', { key: event.key.length === 1 ? event.key.toLowerCase() : event.key, at: i });
        return;
      } else return;
      event.preventDefault();
    },
  },
};
