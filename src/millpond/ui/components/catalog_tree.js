// The tree of catalogs, schemas and their objects. Branches load when they are opened; keys as in the WAI-ARIA tree view.
// A node: {id, label, href, symbol, branch (has children), open, children (null: not loaded), current}
export default {
  props: { nodes: Array },
  data() {
    return { tree: JSON.parse(JSON.stringify(this.nodes)), focus: null };
  },
  computed: {
    lines() {
      const lines = [];
      const walk = (nodes, level, parent) => {
        nodes.forEach((node, i) => {
          lines.push({ node, level, parent, position: i + 1, size: nodes.length });
          if (node.branch && node.open && node.children) walk(node.children, level + 1, node);
        });
      };
      walk(this.tree, 1, null);
      return lines;
    },
    tabbed() {
      const ids = this.lines.map((line) => line.node.id);
      if (this.focus !== null && ids.includes(this.focus)) return this.focus;
      return (this.lines.find((line) => line.node.current) || this.lines[0] || { node: {} }).node.id;
    },
  },
  mounted() {
    this.$nextTick(() => this.$el.querySelector("[aria-current=page]")?.scrollIntoView({ block: "nearest" }));
  },
  methods: {
    find(id, nodes = this.tree) {
      for (const node of nodes) {
        if (node.id === id) return node;
        const found = node.children && this.find(id, node.children);
        if (found) return found;
      }
      return null;
    },
    toggle(node, open = !node.open) {
      if (!node.branch) return;
      node.open = open;
      if (open && node.children === null) this.$emit("expand", node.id);
    },
    fill(id, children) {
      const node = this.find(id);
      if (node) node.children = children;
    },
    step(id) {
      if (id === undefined) return;
      this.focus = id;
      this.$nextTick(() => this.$el.querySelector('[data-node="' + CSS.escape(id) + '"]')?.focus());
    },
    key(event, index) {
      const { node, parent } = this.lines[index];
      const at = (i) => this.lines[i]?.node.id;
      const moves = {
        ArrowDown: () => this.step(at(index + 1)),
        ArrowUp: () => this.step(at(index - 1)),
        Home: () => this.step(at(0)),
        End: () => this.step(at(this.lines.length - 1)),
        ArrowRight: () => (node.branch && !node.open ? this.toggle(node, true) : node.branch && this.step(at(index + 1))),
        ArrowLeft: () => (node.branch && node.open ? this.toggle(node, false) : parent && this.step(parent.id)),
      };
      const move = moves[event.key];
      if (move) {
        event.preventDefault();
        move();
      }
    },
  },
  template: `
    <ul class="mp-tree" role="tree" aria-label="Catalogs">
      <li v-for="(line, i) in lines" :key="line.node.id" role="none" class="mp-tree-line"
        :style="{ '--level': line.level - 1 }" :class="{ 'mp-current': line.node.current }">
        <button v-if="line.node.branch" type="button" class="mp-tree-toggle" tabindex="-1" aria-hidden="true"
          @click="toggle(line.node)"><i class="mp-icon">{{ line.node.open ? "expand_more" : "chevron_right" }}</i></button>
        <span v-else class="mp-tree-toggle"></span>
        <a :href="line.node.href" role="treeitem" :data-node="line.node.id" :aria-level="line.level" :aria-posinset="line.position"
          :aria-setsize="line.size" :aria-expanded="line.node.branch ? (line.node.open ? 'true' : 'false') : null"
          :aria-current="line.node.current ? 'page' : null" :tabindex="line.node.id === tabbed ? 0 : -1" :title="line.node.label"
          @keydown="key($event, i)"><i class="mp-icon" aria-hidden="true">{{ line.node.symbol }}</i><span>{{ line.node.label }}</span></a>
      </li>
    </ul>`,
};
