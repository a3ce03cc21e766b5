"use strict";
// Shows file tables some rows at a time. What is shown is only ever set as text.
(() => {
  const PAGE = 200;
  const NUMBER = 2;
  const collator = new Intl.Collator("en", { numeric: true });

  async function unpack(block) {
    const bytes = Uint8Array.from(atob(block.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(stream).text());
  }

  class Files {
    constructor(root) {
      this.root = root;
      this.blocks = [...root.querySelectorAll("script.rows")];
      this.starts = [];
      this.total = 0;
      for (const block of this.blocks) {
        this.starts.push(this.total);
        this.total += Number(block.dataset.count);
      }
      this.cache = new Map();
      this.chosen = null; // all rows that match, in order; null where it is all of them as they stand
      this.page = 0;
      this.sorted = { column: -1, descending: false };
      this.turn = 0;
      this.body = root.querySelector("tbody");
      this.output = root.querySelector("output");
      this.input = root.querySelector("input");
      this.paging = root.querySelector(".paging");
      this.place = root.querySelector(".place");
      this.shown = root.querySelector(".shown");
      this.first = [...this.body.rows]; // what a print shows of the list as it stands, and what is said of it
      this.firstText = this.shown.textContent;
      this.prepare();
    }

    prepare() {
      const form = this.root.querySelector("form");
      form.hidden = false;
      form.addEventListener("submit", (event) => { event.preventDefault(); this.choose(); });
      let waiting = 0;
      this.input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.choose(), 200); });
      this.root.querySelector(".previous").addEventListener("click", () => this.go(this.page - 1));
      this.root.querySelector(".next").addEventListener("click", () => this.go(this.page + 1));
      this.heads = [...this.root.querySelectorAll("th")];
      this.heads.forEach((head, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = head.dataset.title = head.textContent;
        button.addEventListener("click", () => this.sort(column));
        head.replaceChildren(button);
        head.setAttribute("aria-sort", "none");
      });
      this.titles = this.heads.map((head) => head.dataset.title);
      this.kinds = this.heads.map((head) => head.className);
      addEventListener("beforeprint", () => this.print());
      addEventListener("afterprint", () => this.go(this.page));
      this.tell();
    }

    print() { // what was found or sorted is printed as the page shows it
      if (this.chosen !== null) return;
      this.body.replaceChildren(...this.first);
      this.shown.textContent = this.firstText;
    }

    get count() { return this.chosen === null ? this.total : this.chosen.length; }

    async block(number) {
      if (!this.cache.has(number)) {
        if (this.cache.size > 20) this.cache.delete(this.cache.keys().next().value);
        this.cache.set(number, await unpack(this.blocks[number]));
      }
      return this.cache.get(number);
    }

    async slice(from, to) {
      if (this.chosen !== null) return this.chosen.slice(from, to);
      const rows = [];
      for (let number = 0; number < this.blocks.length; number++) {
        const start = this.starts[number];
        const end = start + Number(this.blocks[number].dataset.count);
        if (end <= from || start >= to) continue;
        rows.push(...(await this.block(number)).slice(Math.max(from - start, 0), to - start));
      }
      return rows;
    }

    async choose() {
      const turn = ++this.turn;
      const wanted = this.input.value.toLowerCase();
      const { column, descending } = this.sorted;
      if (!wanted && column < 0) {
        this.chosen = null;
      } else {
        this.output.textContent = "Reading …";
        const rows = [];
        for (const block of this.blocks) {
          const some = await unpack(block);
          if (turn !== this.turn) return;
          for (const row of some) {
            if (!wanted || row.some((cell) => cell !== null && String(cell).toLowerCase().includes(wanted))) rows.push(row);
          }
        }
        if (column >= 0) {
          const sign = descending ? -1 : 1;
          const compare = column === NUMBER ? (a, b) => (a[column] ?? -1) - (b[column] ?? -1) : (a, b) => collator.compare(a[column], b[column]);
          rows.sort((a, b) => sign * compare(a, b));
        }
        this.chosen = rows;
      }
      await this.go(0);
    }

    async sort(column) {
      this.sorted = { column, descending: this.sorted.column === column && !this.sorted.descending };
      this.heads.forEach((head, number) => {
        head.setAttribute("aria-sort", number !== column ? "none" : this.sorted.descending ? "descending" : "ascending");
      });
      await this.choose();
    }

    async go(page) {
      const last = Math.max(Math.ceil(this.count / PAGE) - 1, 0);
      this.page = Math.min(Math.max(page, 0), last);
      const rows = await this.slice(this.page * PAGE, (this.page + 1) * PAGE);
      this.body.replaceChildren(...rows.map((row) => this.row(row)));
      this.output.textContent = this.input.value ? `${this.count.toLocaleString("en")} found` : "";
      this.tell(rows.length);
    }

    row(values) {
      const row = document.createElement("tr");
      values.forEach((value, column) => {
        const cell = document.createElement("td");
        const text = document.createElement("bdi");
        cell.className = this.kinds[column] + (this.kinds[column] === "text" && value.startsWith("✗ ") ? " wrong" : "");
        text.textContent = value === null ? "" : column === NUMBER ? value.toLocaleString("en") : value;
        cell.dataset.title = this.titles[column];
        cell.append(text);
        row.append(cell);
      });
      return row;
    }

    tell(shown = this.body.rows.length) {
      const last = Math.max(Math.ceil(this.count / PAGE), 1);
      this.paging.hidden = last === 1 && this.total <= shown;
      this.place.textContent = `page ${(this.page + 1).toLocaleString("en")} of ${last.toLocaleString("en")}`;
      this.root.querySelector(".previous").disabled = this.page === 0;
      this.root.querySelector(".next").disabled = this.page + 1 >= last;
      this.shown.textContent = `${shown.toLocaleString("en")} of ${this.total.toLocaleString("en")} entries are shown.`;
    }
  }

  if (typeof DecompressionStream === "undefined") return; // an old browser keeps the first rows
  document.querySelectorAll("section.files").forEach(async (root) => { await new Files(root).go(0); });
})();
