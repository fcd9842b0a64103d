// The table of runs. One element for all of them, so that what is updated elsewhere on the page
// takes neither the focus nor a click away from here.
export default {
  template: `
    <div class="op-runs" tabindex="-1">
      <table aria-label="Runs">
        <thead><tr>
          <th class="op-run-tick"><input type="checkbox" :checked="all" :indeterminate.prop="some && !all"
            aria-label="Tick all runs on this page" @change="$emit('tick', { ids, on: $event.target.checked })"></th>
          <th v-for="column in columns" :key="column.name" scope="col" :class="column.kind" :aria-sort="column.sorted">
            <a v-if="column.href" :href="column.href">{{ column.label }}{{ column.arrow }}</a>
            <template v-else>{{ column.label }}</template>
            <button v-if="column.term" class="op-ask" type="button" aria-haspopup="dialog" :data-term="column.term"
              :aria-label="'Explain: ' + column.label">?</button></th>
        </tr></thead>
        <tbody><tr v-for="row in rows" :key="row.id" :class="{ 'op-ticked': ticked.includes(row.id) }">
          <td class="op-run-tick"><input type="checkbox" :checked="ticked.includes(row.id)"
            :aria-label="'Tick ' + row.name" @change="$emit('tick', { ids: [row.id], on: $event.target.checked })"></td>
          <th scope="row" class="op-run-name"><a :href="'/runs/' + row.id" :title="row.whole">{{ row.name }}</a>
            <small v-if="row.note">{{ row.note }}</small>
            <small class="op-narrow"><span :class="'op-state op-state-' + row.state">{{ row.state }}</span> ·
              {{ row.brief }}</small>
            <small class="op-narrow">{{ row.started }}</small>
            <small v-if="row.cause" :class="{ 'op-wrong': row.bad }">{{ row.cause }}</small></th>
          <td class="op-broad"><span :class="'op-state op-state-' + row.state">{{ row.state }}</span></td>
          <td class="op-broad op-middle op-run-text">{{ row.source }}</td>
          <td class="op-broad op-middle">{{ row.model }}</td>
          <td class="op-number">{{ row.accuracy }}<small v-if="row.on">{{ row.on }}</small></td>
          <td class="op-broad"><svg v-if="row.points" role="img" :aria-label="row.curve" viewBox="0 0 96 24">
            <title>{{ row.curve }}</title><polyline :points="row.points"></polyline>
            <circle r="2.2" :cx="row.end.split(',')[0]" :cy="row.end.split(',')[1]"></circle></svg></td>
          <td class="op-broad op-middle op-number">{{ row.seconds }}</td>
          <td class="op-broad op-number">{{ row.started }}</td>
        </tr></tbody>
      </table>
    </div>`,
  props: { columns: Array, rows: Array, ticked: Array },
  emits: ["tick"],
  computed: {
    ids() {
      return this.rows.map((row) => row.id);
    },
    all() {
      return this.ids.length > 0 && this.ids.every((id) => this.ticked.includes(id));
    },
    some() {
      return this.ids.some((id) => this.ticked.includes(id));
    },
  },
};
