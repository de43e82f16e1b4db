// The page of the sandbox. Records are foreign text: it enters the page only as text content, never as HTML.
"use strict";

const POLL_MILLISECONDS = 1000;
const find = (id) => document.getElementById(id);
const TOKEN = "evermuse-sandbox-token";

// --- HTTP ---------------------------------------------------------------------------------------

async function send(method, path, content) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (content !== undefined) headers["Content-Type"] = "application/json";
  const body = content === undefined ? undefined : JSON.stringify(content);
  const response = await fetch(`/sandbox/${path}`, { method, headers, body, cache: "no-store" });
  if (response.status === 401) show_login();
  return response;
}

async function json(method, path, content) {
  const response = await send(method, path, content);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function show_login() {
  find("login").hidden = false;
  find("main").hidden = true;
}

// --- Elements -----------------------------------------------------------------------------------

function create(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function button(text, action, attributes = {}) {
  const element = create("button", text, { type: "button", ...attributes });
  element.addEventListener("click", action);
  return element;
}

const number = (value) => value.toLocaleString("en");

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function tone(state) {
  if (["complete", "accepted", "answered"].includes(state)) return "good";
  return ["failed", "refused", "error", "dropped", "rejected"].includes(state) ? "bad" : "warn";
}

// --- Lists --------------------------------------------------------------------------------------

const COLUMNS = {
  requests: [
    ["Request", (row) => button(`#${row.number}`, () => open_request(row.number), { "data-key": row.number, "aria-label": `Open request ${row.number}` })],
    ["Time", (row) => time(row.at), "time"],
    ["Call", (row) => (row.method === "POST" ? "" : `${row.method} ${row.path}`)],
    ["Type", (row) => row.type, "short"],
    ["Product", (row) => row.product, "long"],
    ["Records", (row) => (row.records ? number(row.records) : ""), "number"],
    ["Rejected", (row) => (row.rejected ? number(row.rejected) : ""), "number bad"],
    ["Bytes", (row) => (row.bytes ? size(row.bytes) : ""), "number"],
    ["Status", (row) => row.status ?? "none", "number"],
    ["State", (row) => create("span", row.state, { class: tone(row.state) }), "short"],
    ["Notes", notes, "long"],
  ],
  records: [
    ["Record", (row) => button(`#${row.request}.${row.index}`, () => open_record(row), { "data-key": `${row.request}.${row.index}`, "aria-label": `Open record ${row.index} of request ${row.request}` })],
    ["Type", (row) => row.type, "short"],
    ["Product", (row) => row.product, "short"],
    ["Vendor ids", (row) => row.vendor_ids, "long"],
    ["Event at", (row) => row.event_at, "short"],
    ["Bytes", (row) => size(row.bytes), "number"],
    ["State", (row) => create("span", row.state, { class: tone(row.state) }), "short"],
    ["Message", (row) => row.message, "long"],
    ["Data", (row) => row.preview, "long"],
  ],
};

function notes(row) {
  const texts = [row.error && (row.message ? `${row.error}: ${row.message}` : row.error)];
  if (row.has_fault) texts.push("injected fault");
  if (row.is_replay) texts.push("idempotent replay");
  if (row.breaks_contract) texts.push("breaks the contract");
  if (row.batch_id) texts.push(row.batch_id);
  return texts.filter(Boolean).join(" · ");
}

function fill_cell(cell, value) {
  if (value instanceof Node) cell.append(value);
  else cell.textContent = value;
  if (value === "") cell.classList.add("empty");
}

let shown = "";

function show_rows(view, rows) {
  const key = JSON.stringify([view, rows]);
  if (key === shown) return;
  shown = key;
  const focused = document.activeElement?.dataset?.key;
  find("head").replaceChildren(...COLUMNS[view].map(([label]) => create("th", label, { scope: "col" })));
  find("rows").replaceChildren(...rows.map((row) => {
    const line = create("tr");
    for (const [label, value, style] of COLUMNS[view]) {
      const cell = create("td", null, { "data-label": label, ...(style ? { class: style } : {}) });
      fill_cell(cell, value(row));
      line.append(cell);
    }
    return line;
  }));
  // The rows are new elements, so the focus of the keyboard must be restored.
  if (focused) [...find("rows").querySelectorAll("button")].find((item) => item.dataset.key === focused)?.focus();
  find("empty").hidden = rows.length > 0;
}

function set_choices(select, values) {
  const wanted = ["", ...values];
  if (select.value && !wanted.includes(select.value)) wanted.push(select.value);
  const present = [...select.options].map((option) => option.value);
  if (JSON.stringify(present) === JSON.stringify(wanted)) return;
  const value = select.value;
  select.replaceChildren(...wanted.map((item) => create("option", item || "all", { value: item })));
  select.value = value;
}

const RECORD_STATES = ["accepted", "in progress", "refused", "rejected"];

function show_choices(view, choices) {
  set_choices(find("type"), choices.type);
  set_choices(find("product"), choices.product);
  set_choices(find("state"), view === "records" ? RECORD_STATES : choices.state);
  find("types").replaceChildren(...choices.type.map((value) => create("option", null, { value })));
  find("products").replaceChildren(...choices.product.map((value) => create("option", null, { value })));
}

function query() {
  const names = find("view").value === "records" ? ["type", "product", "state", "text"] : ["method", "type", "product", "state", "text"];
  const fields = names.map((name) => [name, find(name).value.trim()]).filter(([, value]) => value);
  return new URLSearchParams(fields).toString();
}

function show_counts(requests) {
  find("counts").textContent = `${number(requests.total)} requests, ${number(requests.kept)} kept in ${size(requests.bytes)}`
    + ` (at most ${number(requests.max_requests)} POSTs, ${number(requests.max_requests)} reads and ${size(requests.max_bytes)}). A list shows 200 rows.`;
  find("forgotten").hidden = !requests.forgotten;
  find("forgotten").textContent = `${number(requests.forgotten)} older requests were dropped from this list. The options --keep-requests and --keep-megabytes set the limits.`;
}

function show_state(state) {
  find("overview").textContent = `${state.contract} contract · ${state.rate_limit} requests per second`
    + ` · ${number(state.batches)} batches · ${number(state.identities)} records`;
  if (document.activeElement !== find("random")) find("random").value = state.random_faults;
  show_counts(state.requests);
  show_faults(state.faults);
}

// --- Faults -------------------------------------------------------------------------------------

let shown_faults = "";

function rest_of(fault) {
  const parts = [];
  if (fault.seconds !== null) parts.push(`${Math.ceil(fault.seconds)} s left`);
  if (fault.count !== null) parts.push(`${number(fault.count)} left`);
  if (!parts.length) parts.push("until removed");
  if (fault.affected) parts.push(`${number(fault.affected)} affected`);
  return parts.join(", ");
}

function show_faults(faults) {
  const key = JSON.stringify(faults.map((fault) => [fault.id, rest_of(fault)]));
  if (key === shown_faults) return;
  shown_faults = key;
  const focused = document.activeElement?.dataset?.fault;
  const items = faults.map((fault) => {
    const item = create("li");
    const remove = button("Remove", () => act("fault-error", () => json("DELETE", `faults/${fault.id}`)),
      { "data-fault": fault.id, "aria-label": `Remove: ${fault.description}` });
    item.append(create("span", fault.description), create("span", rest_of(fault), { class: "muted" }), remove);
    return item;
  });
  if (faults.length > 1) {
    const last = create("li");
    last.append(button("Remove all", () => act("fault-error", () => json("DELETE", "faults")), { "data-fault": "all" }));
    items.push(last);
  }
  find("waiting").replaceChildren(...items);
  if (focused) [...find("waiting").querySelectorAll("button")].find((item) => item.dataset.fault === focused)?.focus();
}

function show_fields() {
  const effect = find("effect").value;
  for (const label of document.querySelectorAll("[data-for]")) {
    const is_used = label.dataset.for.split(" ").includes(effect);
    label.hidden = !is_used;
    for (const field of label.querySelectorAll("input, select")) field.disabled = !is_used;
  }
}

function selector() {
  const value = find("reject").value.trim();
  if (find("reject-by").value === "id") return value;
  if (find("reject-by").value === "position") return Number(value);
  const [path, ...rest] = value.split("=");
  return { [path]: rest.join("=") };
}

function duration() {
  const value = find("duration").value;
  if (value.endsWith("s")) return { seconds: parseInt(value, 10) };
  return { count: value === "all" ? null : Number(value) };
}

function fault_of_form() {
  const effect = find("effect").value;
  const is_after = find("when").value === "after";
  const fault = {
    status: () => ({ status: Number(find("status").value), after_handling: is_after, message: find("message").value }),
    too_many: () => ({ status: 429, seconds: Number(find("too-many-seconds").value) }),
    delay: () => ({ delay: Number(find("delay").value), after_handling: is_after }),
    drop: () => ({ drop: find("when").value }),
    reject: () => ({ reject: selector(), message: find("message").value }),
    batch_fails: () => ({ batch_fails: true }),
  }[effect]();
  if (!find("on").disabled) fault.on = find("on").value;
  if (!find("duration").disabled) Object.assign(fault, duration());
  if (find("fault-type").value) fault.type = find("fault-type").value;
  if (find("fault-product").value) fault.product_id = find("fault-product").value;
  return fault;
}

// --- Details ------------------------------------------------------------------------------------

function list_of(pairs) {
  const list = create("dl");
  for (const [name, value] of pairs) list.append(create("dt", name), create("dd", value));
  return list;
}

function open_dialog(title, elements) {
  find("detail-title").textContent = title;
  find("detail-content").replaceChildren(...elements);
  if (!find("detail").open) find("detail").showModal();
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function open_request(id) {
  const row = await json("GET", `requests/${id}`);
  const facts = [
    ["State", row.state], ["Status", row.status ?? "no response"], ["Time", `${time(row.at)}, ${row.seconds ?? "?"} s`],
    ["Batch", row.batch_id], ["Idempotency-Key", row.idempotency_key], ["Type", row.type], ["Product", row.product],
    ["Records", row.records ? `${number(row.accepted)} accepted, ${number(row.rejected)} rejected` : ""], ["Notes", notes(row)],
  ].filter(([, value]) => value !== "");
  const elements = [list_of(facts), create("h3", "Headers of the request"), list_of(row.headers),
    create("h3", `Response, ${size(row.response_bytes)}`), create("pre", pretty(row.response) || "(no body)")];
  if (row.method === "POST") elements.push(...await body_of(id, row));
  open_dialog(`Request #${id}: ${row.method} ${row.path}`, elements);
}

const MAX_SHOWN = 50000;

async function body_of(id, row) {
  const raw = create("pre", null, { tabindex: 0, "aria-label": "Raw bytes of the body" });
  const bytes = await (await send("GET", `requests/${id}/body`)).arrayBuffer();
  raw.textContent = as_text(bytes);
  const records = create("div");
  for (const record of row.records_in_body.slice(0, 1000)) {
    const line = create("p");
    line.append(button(`${record.index}`, () => open_record(record), { "aria-label": `Open record ${record.index}` }),
      ` ${record.vendor_ids || record.preview} `, create("span", record.message || record.state, { class: tone(record.state) }));
    records.append(line);
  }
  const title = `Raw body, ${size(bytes.byteLength)}`;
  return [create("h3", title), raw, button("Save body", () => save(`request-${id}.txt`, bytes)), create("h3", "Records"), records];
}

function as_text(bytes) {
  const text = new TextDecoder().decode(bytes.slice(0, MAX_SHOWN));
  return bytes.byteLength > MAX_SHOWN ? `${text}\n… (${size(bytes.byteLength)} in all: save the body to see the rest)` : text;
}

function save(name, bytes) {
  const address = URL.createObjectURL(new Blob([bytes]));
  const link = create("a", null, { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}

async function open_record(record) {
  const bytes = await (await send("GET", `requests/${record.request}/records/${record.index}`)).arrayBuffer();
  const raw = as_text(bytes);
  const reject = button("Reject this record from now on", async () => {
    const [, vendor_id] = first_vendor_id(raw);
    await json("POST", "faults", { reject: vendor_id, message: "Rejected by the page of the sandbox." });
    find("detail").close();
    refresh();
  });
  reject.disabled = first_vendor_id(raw) === null;
  open_dialog(`Record ${record.index} of request #${record.request}`, [
    list_of([["State", record.state], ["Message", record.message], ["Bytes", number(record.bytes)]].filter(([, value]) => value !== "")),
    create("h3", "Raw bytes"), create("pre", raw, { tabindex: 0, "aria-label": "Raw bytes of the record" }),
    create("h3", "Formatted"), create("pre", pretty(raw), { tabindex: 0, "aria-label": "Formatted record" }),
    reject, " ", button("Show its request", () => open_request(record.request)),
  ]);
}

function first_vendor_id(raw) {
  try {
    return Object.entries(JSON.parse(raw)._vendor_ids)[0] ?? null;
  } catch {
    return null;
  }
}

// --- The loop -----------------------------------------------------------------------------------

let is_paused = false;
let latest = 0;

async function refresh() {
  const turn = ++latest;
  const view = find("view").value;
  try {
    const state = await json("GET", "state");
    const content = is_paused ? null : await json("GET", `${view}?${query()}`);
    if (turn !== latest) return; // the filters have changed meanwhile
    find("login").hidden = true;
    find("main").hidden = false;
    show_state(state);
    if (content) {
      show_choices(view, content.choices);
      show_rows(view, content[view]);
    }
    find("connection").textContent = "";
  } catch (error) {
    find("connection").textContent = find("login").hidden ? `The sandbox does not answer: ${error.message}` : "";
  }
}

async function act(place, action) {
  try {
    await action();
    find(place).textContent = "";
  } catch (error) {
    find(place).textContent = error.message;
  }
  refresh();
}

function connect_form(id, action) {
  find(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

function start() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname); // the token must not stay in the address
  }
  connect_form("login", () => {
    sessionStorage.setItem(TOKEN, find("token").value);
    refresh();
  });
  connect_form("fault-form", () => act("fault-error", () => json("POST", "faults", fault_of_form())));
  connect_form("random-form", () => act("fault-error", () => json("PUT", "random-faults", { percent: Number(find("random").value) })));
  connect_form("filters", refresh);
  for (const id of ["view", "method", "type", "product", "state"]) find(id).addEventListener("change", refresh);
  find("view").addEventListener("change", () => { find("state").value = ""; });
  find("text").addEventListener("input", refresh);
  const choose_duration = () => {
    const lasts = find("effect").value === "reject" && find("reject-by").value !== "position";
    find("duration").value = lasts ? "all" : "1";
  };
  find("effect").addEventListener("change", () => {
    show_fields();
    choose_duration();
  });
  find("reject-by").addEventListener("change", () => {
    choose_duration();
    find("reject").placeholder = { id: "mail-17", position: "0", value: "data.subject=Hello" }[find("reject-by").value];
  });
  find("pause").addEventListener("click", () => {
    is_paused = !is_paused;
    find("pause").setAttribute("aria-pressed", is_paused);
    find("pause").textContent = is_paused ? "Continue" : "Pause";
    refresh();
  });
  find("forget").addEventListener("click", () => act("fault-error", () => json("DELETE", "requests")));
  find("close").addEventListener("click", () => find("detail").close());
  show_fields();
  refresh();
  setInterval(() => { if (!document.hidden) refresh(); }, POLL_MILLISECONDS);
}

start();
