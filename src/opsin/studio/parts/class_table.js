// Counts by class and part: one element, however many classes.
export default {
  template: `
    <div class="op-class-table" :tabindex="rows.length > 12 ? 0 : null" role="group" :aria-label="label">
      <table>
        <thead><tr><th v-for="(c, j) in ['Class', ...columns]" scope="col">
          <button v-if="terms[j]" class="op-term" type="button" aria-haspopup="dialog" :data-term="terms[j]">{{ c }}</button>
          <template v-else>{{ c }}</template></th></tr></thead>
        <tbody>
          <tr v-for="(r, i) in rows" :key="i" :class="{ 'op-here': r.here }">
            <th scope="row"><a :href="r.href" :title="r.title" :aria-current="r.here ? 'true' : null">{{ r.name }}</a>
              <span class="op-bar" aria-hidden="true"><i v-for="(s, k) in r.shares" :class="'op-part-' + k"
                :style="{ width: s + '%' }"></i></span></th>
            <td v-for="c in r.cells"><a v-if="c.href" :href="c.href">{{ c.text }}</a><span v-else>{{ c.text }}</span></td>
          </tr>
        </tbody>
        <tfoot v-if="rows.length > 1"><tr><th scope="row"><a :href="all">All</a></th>
          <td v-for="c in totals"><a v-if="c.href" :href="c.href">{{ c.text }}</a><span v-else>{{ c.text }}</span></td></tr></tfoot>
      </table>
    </div>`,
  props: { columns: Array, terms: Array, rows: Array, totals: Array, all: String, label: String },
};
