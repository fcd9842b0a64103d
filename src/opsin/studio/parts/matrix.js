// A confusion matrix: cells are links to their images, where there are any.
export default {
  template: `
    <div class="op-matrix" tabindex="0" role="group" aria-label="Confusion matrix, right class by answer">
      <table>
        <thead><tr><th scope="col" class="op-axes">
          <template v-for="(axis, j) in axes"><button class="op-term" type="button" aria-haspopup="dialog"
            :data-term="terms[j]">{{ axis }}</button> {{ '↓→'[j] }} </template></th>
          <th v-for="(name, j) in names" :key="j" scope="col" :title="whole[j]"><span>{{ name }}</span></th></tr></thead>
        <tbody><tr v-for="(row, i) in cells" :key="i">
          <th scope="row" :title="whole[i]">{{ names[i] }}</th>
          <td v-for="(cell, j) in row" :key="j">
            <a v-if="address && cell.kind !== 'none'" :href="address + i + '-' + j" :class="kind(cell)"
               :style="{ '--depth': cell.depth }" :title="cell.said" :aria-label="cell.said"
               :aria-current="chosen === i + '-' + j ? 'true' : null">{{ cell.text }}</a>
            <span v-else :class="kind(cell)" :style="{ '--depth': cell.depth }" :title="cell.said">{{ cell.text }}</span>
          </td></tr></tbody>
      </table>
    </div>`,
  props: { cells: Array, names: Array, whole: Array, axes: Array, terms: Array, address: String, chosen: String },
  methods: {
    kind(cell) {
      return ['op-cell-' + cell.kind, cell.kind === 'wrong' && cell.depth > 0.8 ? 'op-cell-deep' : ''];
    },
  },
};
