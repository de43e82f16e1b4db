// What a page must hold. Each function takes a CSS selector, the part of the page to look at.
({
  /** Return by how many pixels the page is wider than the screen. */
  sideways() {
    return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - window.innerWidth;
  },

  /** Return the elements whose text is cut off, and the cells of a list that a long word makes very wide. */
  cutOff(scope) {
    const found = [];
    for (const element of document.querySelectorAll(`${scope} *`)) {
      const { overflowX, webkitLineClamp } = getComputedStyle(element);
      const isCut = overflowX === "hidden" && element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1;
      const isWide = element.matches("#result_list :is(td, th)") && element.offsetWidth > 340;
      if ((isCut && webkitLineClamp === "none") || isWide) found.push(element.outerHTML.slice(0, 120));
    }
    return found;
  },

  /** Return the texts whose contrast is below level AA of WCAG 2: 4.5, or 3 for large text. */
  poorContrast(scope) {
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const parse = (text) => {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = text;
      context.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = (top, bottom) => [0, 1, 2].map((i) => top[i] * top[3] + bottom[i] * (1 - top[3]));
    const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
    const background = (element) => {
      if (!element) return parse(isDark ? "#121212" : "#fff");
      const colour = parse(getComputedStyle(element).backgroundColor);
      return colour[3] === 1 ? colour : over(colour, background(element.parentElement));
    };
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
      const [r, g, b] = colour.map((value) => linear(value / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (element) => {
      const below = background(element);
      const text = over(parse(getComputedStyle(element).color), below);
      const [light, dark] = [luminance(text), luminance(below)].sort((a, b) => b - a);
      return (light + 0.05) / (dark + 0.05);
    };
    const isLarge = ({ fontSize, fontWeight }) =>
      parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && Number(fontWeight) >= 700);

    const poor = new Set();
    getComputedStyle(document.body).color; // starts the transitions to the colours of another scheme
    for (const transition of document.getAnimations()) transition.finish();
    const texts = document.createTreeWalker(document.querySelector(scope), NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.textContent.trim();
      const element = texts.currentNode.parentElement;
      if (!text || !element.checkVisibility() || element.closest("title, option, :disabled")) continue;
      const ratio = contrast(element);
      const isGraphic = element.closest("[aria-hidden]") !== null;
      if (ratio >= (isGraphic || isLarge(getComputedStyle(element)) ? 3 : 4.5)) continue;
      const place = element.closest("[class]");
      poor.add(`${text.slice(0, 40)} <${place.tagName} ${place.className}> ${ratio.toFixed(2)}`);
    }
    return [...poor];
  },

  /** Return the links, buttons and fields that the keyboard cannot reach, or that have no name. */
  unreachable(scope) {
    const found = [];
    const controls = ":is(a[href], button, input:not([type=hidden]), select, textarea, summary)";
    for (const element of document.querySelectorAll(`${scope} ${controls}`)) {
      if (!element.checkVisibility() || element.disabled || element.matches(".sortremove")) continue; // Django's
      element.focus();
      const isReached = document.activeElement === element && element.tabIndex >= 0;
      const name = element.getAttribute("aria-label") || element.textContent.trim() || element.value || element.title;
      const start = element.outerHTML.slice(0, 120);
      if (!isReached) found.push(`not reachable: ${start}`);
      else if (!name && !element.labels?.length && !element.placeholder) found.push(`without a name: ${start}`);
      element.blur();
    }
    return found;
  },
});
