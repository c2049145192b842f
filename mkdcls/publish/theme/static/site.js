// Colours, the list of pages on a small screen, where one is on the page, copying of code.
(() => {
  const root = document.documentElement, themes = { auto: "as the system", light: "light", dark: "dark" };
  const button = document.querySelector(".theme");
  const tell = () => {
    const words = "Colours: " + themes[root.dataset.theme || "auto"];
    button.setAttribute("aria-label", words); button.title = words;
  };
  button.addEventListener("click", () => {
    const names = Object.keys(themes);
    root.dataset.theme = names[(names.indexOf(root.dataset.theme || "auto") + 1) % names.length];
    try { localStorage.setItem("mkdcls-theme", root.dataset.theme); } catch (e) { /* a browser without storage */ }
    tell();
  });
  tell();

  const menu = document.querySelector(".menu"), pages = document.getElementById("all-pages");
  menu.addEventListener("click", () => menu.setAttribute("aria-expanded", pages.classList.toggle("shown")));
  const current = pages.querySelector("[aria-current]");
  if (current) pages.scrollTop = Math.max(0, current.offsetTop - pages.clientHeight / 2);

  for (const box of document.querySelectorAll(".highlight")) {
    const copy = document.createElement("button");
    copy.type = "button"; copy.className = "copy"; copy.textContent = "Copy";
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(box.querySelector("pre").innerText);
      copy.textContent = "Copied"; setTimeout(() => { copy.textContent = "Copy"; }, 1200);
    });
    box.append(copy);
  }

  const links = new Map([...document.querySelectorAll(".here a")].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
  const seen = new IntersectionObserver(found => {
    for (const f of found) if (f.isIntersecting && links.has(f.target.id)) {
      links.forEach(a => a.classList.remove("now")); links.get(f.target.id).classList.add("now");
    }
  }, { rootMargin: "-10% 0px -75% 0px" });
  document.querySelectorAll("article section[id]").forEach(s => seen.observe(s));
})();
