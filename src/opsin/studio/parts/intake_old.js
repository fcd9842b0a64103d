// Files by button, drop, paste or camera, sent in parts; the same file goes on where it stopped.
const AT_ONCE = 3;
const NO_TYPE = /\.(jpe|jfif|p[pgbn]m|avif|webp|tiff?|hei[cf]|hif|mpo|tga|pcx|ico|jp[2cfx]|j2[ck])$/i;
const LITTER = ['Thumbs.db', 'desktop.ini'];

// Everything below a folder that was dropped.
async function* filesIn(entry, path) {
  if (entry.isFile) {
    const file = await new Promise((take, fail) => entry.file(take, fail));
    yield { file, path: path ? path + file.name : '' };
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // It gives a hundred at a time, and none when there are no more.
    const some = await new Promise((take, fail) => reader.readEntries(take, fail));
    if (!some.length) return;
    for (const each of some) yield* filesIn(each, path + entry.name + '/');
  }
}

// Sixteen digits that say which file this is (cyrb53's mixing; crypto.subtle needs https).
function keyOf(words) {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (const byte of new TextEncoder().encode(words.join('\u0000'))) {
    a = Math.imul(a ^ byte, 2654435761);
    b = Math.imul(b ^ byte, 1597334677);
  }
  [a, b] = [Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909),
    Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)];
  return [a, b].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
}

function size(bytes) {
  for (const [unit, least] of [['GB', 1e9], ['MB', 1e6], ['kB', 1e3]]) {
    if (bytes >= least) return (bytes / least).toFixed(bytes >= 10 * least ? 0 : 1) + ' ' + unit;
  }
  return bytes + ' B';
}

function clock(seconds) {
  const [minutes, left] = [Math.floor(seconds / 60), Math.round(seconds) % 60];
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  const two = (number) => String(number).padStart(2, '0');
  return hours ? `${hours}:${two(rest)}:${two(left)}` : `${minutes}:${two(left)}`;
}

// The names of some files, and how many more there are.
function named(files) {
  const few = files.slice(0, 3).map((name) => name.length > 60 ? name.slice(0, 29) + '…' + name.slice(-30) : name);
  const more = files.length - few.length;
  return few.join(', ') + (more > 0 ? ` and ${more.toLocaleString('en')} more` : '');
}

export default {
  template: `
    <div class="op-intake" :class="{ 'op-over': over }" role="group" :aria-label="label"
        @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
      <p class="op-intake-say">{{ label }}</p>
      <div class="op-actions">
        <label class="op-intake-choose">{{ multiple ? 'Choose files' : 'Choose a file' }}<input type="file"
          :multiple="multiple" :accept="accept" :disabled="disabled" @change="chosen"></label>
        <label v-if="folders" class="op-intake-choose">Choose a folder<input type="file" webkitdirectory
          :disabled="disabled" @change="chosen"></label>
        <button v-if="camera && able && !stream" type="button" :disabled="disabled" @click="look">Use the camera</button>
        <span class="op-muted">or drop {{ multiple ? 'them' : 'it' }} here, or paste</span>
      </div>
      <p v-if="camera && !able" class="op-muted">No camera here: browsers allow it on this machine itself
        (localhost) or over https.</p>
      <div v-if="stream" class="op-intake-camera"><video ref="video" autoplay playsinline muted
          aria-label="What the camera sees"></video>
        <div class="op-actions"><button ref="shutter" type="button" class="op-primary" @click="snap">Take an image</button>
          <button type="button" @click="close">Close the camera</button>
          <span class="op-muted" aria-live="polite">{{ taken ? (taken === 1 ? '1 image' : taken + ' images') + ' taken' : '' }}</span></div></div>
      <div v-if="state !== 'idle'" class="op-intake-state">
        <progress :value="total ? done / total : 1" max="1" :aria-label="'Sent of: ' + label"></progress>
        <span aria-live="polite">{{ text }}</span>
        <button v-if="state === 'sending'" type="button" @click="stop">Stop</button>
        <button v-if="state === 'stopped'" type="button" @click="begin">Go on</button>
        <button v-if="state === 'stopped'" type="button" @click="discard">Discard</button>
      </div>
      <p v-if="passed.length" class="op-muted">Passed over, for {{ passed.length === 1 ? 'it is' : 'they are' }} not
        {{ packed ? 'images or archives' : 'images' }}: {{ named(passed) }}.</p>
      <p v-if="fault" class="op-error" role="alert">{{ fault }}</p>
    </div>`,
  props: {
    label: String, multiple: Boolean, accept: String, camera: Boolean, folders: Boolean, batch: String,
    part: Number, disabled: Boolean,
  },
  data: () => ({
    over: false, stream: null, able: !!navigator.mediaDevices?.getUserMedia, state: 'idle',
    done: 0, total: 0, count: 0, text: '', fault: '', passed: [], taken: 0,
  }),
  computed: {
    packed() { return this.accept.includes('.zip'); },
  },
  created() {
    // Not among the data: of a hundred thousand files none is watched.
    Object.assign(this, { waiting: [], sent: [], news: [], round: null, began: 0, before: 0 });
    this.pasted = (event) => this.paste(event);
    this.leaving = (event) => { if (this.state === 'sending') event.preventDefault(); };
  },
  mounted() {
    document.addEventListener('paste', this.pasted);
    window.addEventListener('beforeunload', this.leaving);
  },
  beforeUnmount() {
    document.removeEventListener('paste', this.pasted);
    window.removeEventListener('beforeunload', this.leaving);
    this.state = 'idle';
    this.round?.breaker.abort();
    this.close();
  },
  methods: {
    named,
    chosen(event) {
      const files = [...event.target.files];
      event.target.value = ''; // the same file can be chosen again
      this.send(files.map((file) => ({ file, path: file.webkitRelativePath || '' })));
    },
    async dropped(event) {
      this.over = false;
      const files = [...event.dataTransfer.files].map((file) => ({ file, path: '' }));
      // Asked for at once: after the first wait there is nothing left of what was dropped.
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      if (!entries.some((entry) => entry.isDirectory)) { this.send(files); return; }
      const found = [];
      try {
        for (const entry of entries) for await (const each of filesIn(entry, '')) found.push(each);
      } catch (error) { this.fault = 'The folder cannot be read (' + error.name + '). Check its rights.'; return; }
      this.send(found);
    },
    paste(event) {
      const files = [...(event.clipboardData?.files || [])];
      if (!files.length || event.defaultPrevented || this.disabled) return;
      event.preventDefault();
      this.send(files.map((file) => ({ file, path: '' })));
    },
    async look() {
      this.fault = '';
      const wanted = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: 'environment' } };
      try { this.stream = await navigator.mediaDevices.getUserMedia(wanted); } catch (error) {
        this.fault = `No camera can be used (${error.name}). Plug one in, or allow it in the address bar.`;
        return;
      }
      await this.$nextTick();
      this.$refs.video.srcObject = this.stream;
      this.$refs.shutter.focus();
    },
    close() {
      this.stream?.getTracks().forEach((track) => track.stop());
      this.stream = null;
      this.taken = 0;
    },
    async snap() {
      const video = this.$refs.video;
      if (!video.videoWidth) return;
      const canvas = Object.assign(document.createElement('canvas'), { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext('2d').drawImage(video, 0, 0);
      this.taken += 1;
      const blob = await new Promise((take) => canvas.toBlob(take, 'image/jpeg', 0.95));
      this.send([{ file: new File([blob], `camera-${Date.now()}.jpg`, { type: 'image/jpeg' }), path: '' }]);
    },
    fits(file) {
      if (file.name.startsWith('.') || LITTER.includes(file.name)) return false;
      const name = file.name.toLowerCase();
      return this.accept.split(',').map((rule) => rule.trim()).some((rule) => {
        if (rule.startsWith('.')) return name.endsWith(rule);
        if (!rule.endsWith('/*')) return file.type === rule;
        // To a browser Photoshop's files are images, too: an ending must be one of those listed.
        if (/\.\w{1,5}$/.test(name) && this.accept.includes('.')) return false;
        return file.type ? file.type.startsWith(rule.slice(0, -1)) : NO_TYPE.test(name);
      });
    },
    send(files) {
      if (this.disabled) return;
      const kept = files.filter(({ file }) => this.fits(file)).slice(0, this.multiple ? undefined : 1);
      this.passed = files.map(({ file }) => file).filter((file) => !this.fits(file)).map((file) => file.name);
      this.fault = '';
      if (!kept.length) return;
      if (this.state === 'idle' || this.state === 'done') { this.done = this.total = this.count = 0; this.sent = []; }
      for (const { file, path } of kept) {
        const key = keyOf([this.batch, path || file.name, file.size, file.lastModified]);
        this.waiting.push({ file, path, key, offset: 0 });
        this.total += file.size;
        this.count += 1;
      }
      this.begin();
    },
    begin() {
      if (this.state !== 'sending') {
        this.state = 'sending';
        this.fault = '';
        this.round = { breaker: new AbortController(), workers: 0 };
        [this.began, this.before] = [Date.now(), this.done];
      }
      while (this.round.workers < AT_ONCE && this.waiting.length) this.work(this.round);
      this.say();
      this.end(this.round);
    },
    async work(round) {
      round.workers += 1;
      while (this.state === 'sending' && round === this.round && this.waiting.length) {
        const entry = this.waiting.shift();
        if (!(await this.one(entry, round.breaker.signal))) this.waiting.unshift(entry);
      }
      round.workers -= 1;
      this.end(round);
    },
    end(round) {
      if (round.workers || round !== this.round || this.state !== 'sending' || this.waiting.length) return;
      this.tell(true);
      this.state = 'done';
      this.say();
      this.$emit('all', this.sent.length);
    },
    // Sends one file; false where it was not sent to its end.
    async one(entry, signal) {
      const { file, path, key } = entry;
      const address = '/uploads/' + key;
      let asked = file.size > this.part;
      do {
        const answer = asked
          ? await this.ask(address, { signal })
          : await this.ask(`${address}?offset=${entry.offset}`, { method: 'PUT', signal, body: file.slice(entry.offset, entry.offset + this.part) });
        if (signal.aborted) return false;
        if (!answer && !(await this.readable(file))) {
          [this.total, this.count] = [this.total - file.size + entry.offset, this.count - 1]; // the others can go on
          this.fail({ message: file.name + ' cannot be read', advice: 'It may have been moved or changed: choose it again, or go on without it.' });
          return true;
        }
        if (!answer) { // the studio is away, or the network is
          this.text = 'waiting for the studio';
          await new Promise((take) => setTimeout(take, 1000));
          asked = true;
          continue;
        }
        if (answer.error) { this.fail(answer.error); return false; }
        if (answer.offset > file.size) { await this.ask(address, { method: 'DELETE', signal }); answer.offset = 0; }
        this.done += answer.offset - entry.offset;
        entry.offset = answer.offset;
        [asked, entry.once] = [false, entry.once || answer.put];
        this.say();
      } while (entry.offset < file.size || !entry.once);
      this.sent.push(key);
      this.news.push({ key, name: file.name, path, size: file.size });
      this.tell(false);
      return true;
    },
    async ask(address, how) {
      try {
        const reply = await fetch(address, how);
        const said = await reply.json();
        if (reply.ok || reply.status === 409) return { offset: said.offset, put: how.method === 'PUT' || said.offset > 0 };
        return { error: said.error || said };
      } catch (error) {
        return null; // of no matter where it was stopped: the caller asks
      }
    },
    async readable(file) {
      try { await file.slice(0, 1).arrayBuffer(); return true; } catch (error) { return false; }
    },
    fail(error) {
      this.stop();
      this.fault = error.message ? `${error.message}. ${error.advice}` : 'The studio refused it. Load the page again.';
    },
    stop() {
      this.state = 'stopped';
      this.round?.breaker.abort();
      this.tell(true);
      this.say();
    },
    async discard() {
      const keys = [...this.sent, ...this.waiting.filter((entry) => entry.offset).map((entry) => entry.key)];
      Object.assign(this, { waiting: [], sent: [], news: [], state: 'idle', fault: '', passed: [] });
      this.$emit('discard', {});
      for (const key of keys) await this.ask('/uploads/' + key, { method: 'DELETE' });
    },
    // Says which files have arrived, some at a time.
    tell(now) {
      clearTimeout(this.timer);
      const few = !now && this.news.length < 100;
      if (few) { this.timer = setTimeout(() => this.tell(true), 200); return; }
      while (this.news.length) this.$emit('files', this.news.splice(0, 100));
    },
    say() {
      const seconds = (Date.now() - this.began) / 1000;
      const rate = (this.done - this.before) / Math.max(seconds, 0.1);
      const left = this.state === 'sending' && seconds > 2 && rate ? ` · ${clock((this.total - this.done) / rate)} left` : '';
      const files = this.count > 1 ? `${this.sent.length.toLocaleString('en')} of ${this.count.toLocaleString('en')} files · ` : '';
      const stopped = this.state === 'stopped' ? ' · stopped' : '';
      this.text = `${files}${size(this.done)} of ${size(this.total)}${left}${stopped}`;
    },
  },
};
