// A step of the tour: beside the element that it is about, or at the window's foot until that is there.
export default {
  template: `
    <aside v-if="!gone" class="op-tour" popover="manual" tabindex="-1" ref="panel" :aria-label="'Tour: ' + at"
        @keydown.esc="end">
      <p class="op-muted">{{ at }}</p>
      <h2>{{ heading }}</h2>
      <p>{{ text }}</p>
      <div class="op-actions">
        <a v-if="back" :href="back">Back</a>
        <a v-if="next" class="op-button" :href="next">{{ label }}</a>
        <button type="button" :class="{ 'op-button': !next }" @click="end">{{ leave }}</button>
      </div>
    </aside>`,
  props: {
    heading: String, text: String, at: String, target: String, back: String, next: String, label: String,
    leave: String, cookie: String,
  },
  data() {
    return { gone: false };
  },
  mounted() {
    this.framed = null;
    this.touched = false;
    this.$refs.panel.showPopover();
    this.place();
    this.$refs.panel.focus({ preventScroll: true });
    this.sizes = new ResizeObserver(this.place);
    // What a page shows late, and what it replaces.
    const content = document.getElementById("content");
    this.sizes.observe(content);
    this.changes = new MutationObserver(this.find);
    this.changes.observe(content, { childList: true, subtree: true });
    addEventListener("resize", this.place);
    for (const each of ["wheel", "pointerdown", "touchstart", "keydown"])
      addEventListener(each, this.touch, { once: true, passive: true });
    this.find();
  },
  beforeUnmount() {
    this.stop();
  },
  methods: {
    find() {
      const found = this.target && document.querySelector(this.target);
      if (!found || found === this.framed) return;
      this.framed?.classList.remove("op-toured");
      this.framed = found;
      found.classList.add("op-toured");
      this.sizes.observe(found);
      this.place();
    },
    touch() {
      this.touched = true;
    },
    place() {
      const panel = this.$refs.panel;
      if (!panel) return;
      const at = this.framed?.getBoundingClientRect();
      const loose = !at || !at.height;
      panel.classList.toggle("op-tour-loose", loose);
      panel.style.left = panel.style.top = "";
      panel.classList.remove("op-tour-under");
      if (loose) return;
      const room = document.documentElement.clientWidth - panel.offsetWidth - 12;
      const left = Math.max(12, Math.min(at.left, room));
      // Under a small element; what is as high as the window gets it onto its foot.
      const under = at.height < innerHeight * 0.6;
      const top = at.top + (under ? at.height + 18 : Math.max(60, innerHeight * 0.5));
      panel.classList.toggle("op-tour-under", under);
      panel.style.left = `${(under ? left : room) + scrollX}px`;
      panel.style.top = `${top + scrollY}px`;
      // Into sight, until the visitor moves the page.
      if (!this.touched) panel.scrollIntoView({ block: "nearest" });
    },
    stop() {
      removeEventListener("resize", this.place);
      this.sizes?.disconnect();
      this.changes?.disconnect();
      this.framed?.classList.remove("op-toured");
    },
    end() {
      document.cookie = `${this.cookie};samesite=lax`;
      this.stop();
      this.gone = true;
    },
  },
};
