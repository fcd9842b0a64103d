// A network's blocks as a column (or, where it is narrow, a row); each unfolds to its layers.
export default {
  template: `
    <nav class="graph" aria-label="The network, block by block" @keydown="move">
      <template v-for="(block, i) in blocks" :key="i">
        <div class="graph-block" :class="{ 'graph-here': i === here }">
          <button type="button" class="graph-name" :aria-current="block.id === chosen ? 'true' : null"
              @click="$emit('choose', block.id)">
            <i :style="{ width: block.side + 'px', height: block.side + 'px' }" aria-hidden="true"></i>
            <span><b>{{ block.title }}</b> <small>{{ block.note }}</small></span></button>
          <button v-if="block.layers.length > 1" type="button" class="graph-fold" :aria-expanded="String(open.has(i))"
              :aria-label="'Layers of ' + block.title" @click="fold(i)">
            <span class="material-icons" aria-hidden="true">{{ open.has(i) ? 'expand_less' : 'expand_more' }}</span></button>
        </div>
        <div v-if="open.has(i)" class="graph-layers">
          <button v-for="layer in block.layers" :key="layer.id" type="button" :title="layer.note"
              :aria-current="layer.id === chosen ? 'true' : null" @click="$emit('choose', layer.id)">
            {{ layer.title }} <small>{{ layer.note }}</small></button>
        </div>
      </template>
    </nav>`,
  props: { blocks: Array, chosen: String },
  data() { return { open: new Set() }; },
  computed: {
    here() { return this.blocks.findIndex((block) => block.layers.some((layer) => layer.id === this.chosen)); },
  },
  created() { if (this.here >= 0 && this.blocks[this.here].id !== this.chosen) this.open.add(this.here); },
  methods: {
    fold(i) { if (!this.open.delete(i)) this.open.add(i); },
    move(event) { // arrows go from block to block and layer to layer, and unfold
      const names = [...this.$el.querySelectorAll('.graph-name, .graph-layers button')];
      const at = names.indexOf(event.target), i = [...this.$el.querySelectorAll('.graph-name')].indexOf(event.target);
      const row = getComputedStyle(this.$el).flexDirection === 'row';
      const step = { ArrowDown: 1, ArrowUp: -1, ...(row ? { ArrowRight: 1, ArrowLeft: -1 } : {}) }[event.key];
      if (step) names[at + step]?.focus();
      else if (i >= 0 && event.key === 'ArrowRight') this.open.add(i);
      else if (i >= 0 && event.key === 'ArrowLeft') this.open.delete(i);
      else return;
      event.preventDefault();
    },
  },
};
