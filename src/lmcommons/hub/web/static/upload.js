// Files that were chosen or dropped are sent one after another, with progress and further attempts; then the form,
// which makes one commit of them. Without this script the form sends them all by itself.
"use strict";
(() => {
  const form = document.getElementById("upload");
  const inputs = form.querySelectorAll("input[type=file]");
  const list = document.getElementById("chosen");
  const trouble = document.getElementById("trouble");
  const zone = form.querySelector(".drop");
  const button = form.querySelector("button");
  const ATTEMPTS = 4;
  const chosen = new Map(); // path -> {file, row, bar, done}

  const say = (text) => {
    trouble.textContent = text;
    trouble.hidden = !text;
  };

  const add = (path, file) => {
    if (path.split("/").includes(".git")) return; // a clone's history is not among its files
    if (chosen.size >= Number(form.dataset.limit) && !chosen.has(path)) return say(form.dataset.many);
    if (chosen.has(path)) chosen.get(path).row.remove();
    const row = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("progress");
    const out = document.createElement("button");
    out.type = "button";
    out.className = "button quiet";
    out.textContent = "×";
    out.setAttribute("aria-label", `${form.dataset.leaveOut} ${path}`);
    out.addEventListener("click", () => {
      if (button.disabled) return;
      chosen.delete(path);
      row.remove();
    });
    name.textContent = path;
    name.className = "mono";
    bar.max = Math.max(file.size, 1);
    bar.value = 0;
    bar.setAttribute("aria-label", path);
    row.append(name, bar, out);
    list.append(row);
    chosen.set(path, { file, row, bar, done: null });
  };

  const walk = async (entry, path) => {
    if (entry.isFile) {
      add(path + entry.name, await new Promise((resolve, reject) => entry.file(resolve, reject)));
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const inside of some) await walk(inside, `${path}${entry.name}/`);
      }
    }
  };

  const send = (one) =>
    new Promise((resolve, reject) => {
      const data = new FormData();
      data.append("form", form.elements.form.value);
      data.append("file", one.file, "file");
      const request = new XMLHttpRequest();
      request.open("POST", form.dataset.one);
      request.setRequestHeader("Accept", "text/html");
      request.setRequestHeader("HX-Request", "true");
      request.upload.onprogress = (event) => {
        one.bar.value = Math.min(event.loaded, one.bar.max);
      };
      request.onload = () => {
        if (request.status === 200) return resolve(JSON.parse(request.responseText));
        const told = request.getResponseHeader("X-Error-Message") ? request.responseText : String(request.status);
        reject(Object.assign(new Error(told), { final: request.status < 500 && request.status !== 429 }));
      };
      request.onerror = () => reject(new Error(""));
      request.send(data);
    });

  const sendOne = async (path, one) => {
    for (let attempt = 1; !one.done; attempt += 1) {
      try {
        one.done = await send(one);
        one.bar.value = one.bar.max;
      } catch (error) {
        if (error.final || attempt === ATTEMPTS) throw new Error(`${path} ${form.dataset.failed} ${error.message}`);
        await new Promise((resolve) => setTimeout(resolve, 1000 * 3 ** (attempt - 1)));
      }
    }
  };

  const sendAll = async () => {
    // Asked anew each time: while one is sent, others are added, or chosen again with other content.
    for (let left; (left = [...chosen].find(([, one]) => !one.done)); ) await sendOne(...left);
  };

  form.querySelector("[data-script]").hidden = false;
  for (const input of inputs) {
    input.addEventListener("change", () => {
      say("");
      for (const file of input.files) add(file.webkitRelativePath || file.name, file);
      input.value = "";
    });
  }
  for (const kind of ["dragover", "dragenter"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, () => zone.classList.remove("over"));
  zone.addEventListener("drop", async (event) => {
    event.preventDefault();
    say("");
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const entries = items.map((item) => [item.webkitGetAsEntry && item.webkitGetAsEntry(), item.getAsFile()]);
    try {
      for (const [entry, file] of entries) {
        if (entry) await walk(entry, "");
        else if (file) add(file.name, file);
      }
    } catch (error) { // a folder that the browser cannot read
      say(error.message);
    }
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) button.disabled = false; // whoever comes back finds the page as it was when it was sent
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say(chosen.size ? "" : form.dataset.none);
    if (!chosen.size || button.disabled) return;
    button.disabled = true;
    try {
      await sendAll();
      const files = [...chosen].map(([path, one]) => ({ path, ...one.done }));
      form.elements.received.value = JSON.stringify(files);
      form.submit();
    } catch (error) {
      say(error.message);
      button.disabled = false;
    }
  });
})();
