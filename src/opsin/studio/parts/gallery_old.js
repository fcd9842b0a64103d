// Images in rows: chosen by click, shift-click and keyboard; only those in sight are fetched.
export default {
  template: `
    <ul class="op-gallery" :aria-label="label" :role="choosable ? 'listbox' : null"
        :aria-multiselectable="choosable && multiple ? 'true' : null" :style="{ '--side': side + 'px' }">
      <li v-for="(p, i) in images" :key="p.id" :data-id="p.id" :class="kind(p)"
          :role="choosable ? 'option' : null" :aria-selected="choosable ? (own.includes(p.id) ? 'true' : 'false') : null"
          :aria-label="choosable ? named(p) : null" :tabindex="choosable ? (i === at ? 0 : -1) : null"
          :title="p.title" @click="clicked($event, i)" @keydown="pressed($event, i)" @focus="at = i">
        <span class="op-gallery-frame"><img loading="lazy" decoding="async" :width="side" :height="side"
          :alt="choosable ? '' : p.alt" :src="p.src"><b v-if="p.mark" aria-hidden="true">{{ signs[p.mark] }}</b></span>
        <span class="op-gallery-caption" aria-hidden="true">{{ p.caption }}</span>
      </li>
    </ul>`,
  props: { images: Array, label: String, chosen: Array, choosable: Boolean, multiple: Boolean, side: Number },
  data() {
    return {
      own: [...this.chosen],
      at: 0,
      from: 0,
      signs: { right: '✓', wrong: '✗', corrected: '→', 'left out': '–' },
    };
  },
  watch: {
    chosen(ids) { this.own = [...ids]; },
    images() { if (this.at >= this.images.length) this.at = this.from = 0; },
  },
  methods: {
    kind(p) {
      return [p.mark ? 'op-mark-' + p.mark.replace(' ', '-') : '', this.own.includes(p.id) ? 'op-chosen' : ''];
    },
    named(p) { // what is seen is in it, for those who say it
      return p.alt.includes(p.caption) ? p.alt : `${p.caption}, ${p.alt}`;
    },
    tell(ids) {
      this.own = this.images.map((p) => p.id).filter((id) => ids.has(id));
      this.$emit('choose', this.own);
    },
    choose(i, whole) {
      const id = this.images[i].id;
      if (!this.multiple) { this.tell(new Set([id])); return; }
      const ids = new Set(this.own);
      if (whole) {
        const [low, high] = [Math.min(this.from, i), Math.max(this.from, i)];
        this.images.slice(low, high + 1).forEach((p) => ids.add(p.id));
      } else if (!ids.delete(id)) {
        ids.add(id);
      }
      if (!whole) this.from = i;
      this.tell(ids);
    },
    clicked(event, i) {
      if (!this.choosable) return;
      this.at = i;
      this.choose(i, event.shiftKey);
    },
    focus(i) {
      this.at = i;
      this.$el.children[i].focus();
    },
    pressed(event, i) {
      if (!this.choosable) return;
      const items = [...this.$el.children];
      const top = items[0].offsetTop;
      const wide = items.filter((item) => item.offsetTop === top).length;
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[event.key];
      const to = { Home: 0, End: items.length - 1 }[event.key] ?? (step === undefined ? undefined : i + step);
      if (to !== undefined) {
        if (items[to]) {
          this.focus(to);
          if (event.shiftKey && this.multiple) this.choose(to, true);
        }
      } else if (event.key === ' ' || event.key === 'Enter') {
        this.choose(i, event.shiftKey);
      } else if (event.key === 'a' && (event.ctrlKey || event.metaKey) && this.multiple) {
        this.tell(new Set(this.images.map((p) => p.id)));
      } else if (event.key === 'Escape' && this.own.length) {
        this.tell(new Set());
      } else {
        return;
      }
      event.preventDefault();
    },
  },
};
