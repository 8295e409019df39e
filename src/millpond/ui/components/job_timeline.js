// Attempts over time. A row: {l label, h address, s spans}; a span: [tone, from percent, width percent, what it says].
export default {
  props: { label: String, rows: Array, ticks: Array },
  template: `
    <div class="mp-timeline" role="region" :aria-label="label" tabindex="0">
      <div class="mp-timeline-row mp-note" aria-hidden="true"><span></span><div><span v-for="(tick, i) in ticks" :key="i">{{ tick }}</span></div></div>
      <a v-for="(row, r) in rows" :key="r" class="mp-timeline-row" :href="row.h" :title="row.s.map((span) => span[3]).join(', ')">
        <span>{{ row.l }}</span>
        <div><i v-for="(span, i) in row.s" :key="i" :class="'mp-span-' + span[0]" :style="{ left: span[1] + '%', width: span[2] + '%' }"></i>
          <b class="mp-hidden">{{ row.s.map((span) => span[3]).join(", ") }}</b></div>
      </a>
    </div>`,
};
