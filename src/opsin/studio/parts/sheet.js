// A plain table; the first cell of a row is its heading.
export default {
  template: `
    <div class="op-sheet" tabindex="0" role="group" :aria-label="label">
      <table class="op-table">
        <thead><tr><th v-for="(name, j) in columns" :key="j" scope="col" :class="kind(j)">
          <button v-if="terms[j]" class="op-term" type="button" aria-haspopup="dialog" :data-term="terms[j]">{{ name }}</button>
          <template v-else>{{ name }}</template></th></tr></thead>
        <tbody><tr v-for="(row, i) in rows" :key="i">
          <template v-for="(cell, j) in row" :key="j">
            <th v-if="j === 0" scope="row" :title="cell">{{ cell }}</th>
            <td v-else-if="j === kinds && explained[i]" :class="kind(j)"><button class="op-term" type="button"
              aria-haspopup="dialog" :data-term="explained[i]">{{ cell }}</button></td>
            <td v-else :class="kind(j)">{{ cell }}</td>
          </template></tr></tbody>
        <tfoot v-if="total.length"><tr><td v-for="(cell, j) in total" :key="j">{{ cell }}</td></tr></tfoot>
      </table>
    </div>`,
  props: {
    columns: Array, rows: Array, terms: Array, explained: Array, kinds: Number, total: Array, texts: Number,
    label: String,
  },
  methods: {
    kind(column) {
      return column < this.texts ? 'op-text' : '';
    },
  },
};
