// Files by button, drop, paste or camera, sent in parts; the same file goes on where it stopped.
const AT_ONCE = 3;
const PART = 4 * 2 ** 20; // bytes that are sent at once
const PERIOD = 125; // milliseconds from one recorded frame to the next
const MOST_WAITING = 100;
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

// Live: what the camera sees is answered frame by frame, the next once the last has its answer.
const LIVE = `
  <div v-if="stream && live" class="live">
    <div class="stack"><video ref="video" autoplay playsinline muted :class="{ mirrored }" aria-label="What the camera sees"></video>
      <div class="line"><button ref="shutter" type="button" class="primary" @click="snap">Keep this photograph</button>
        <button type="button" @click="close">Stop</button>
        <label v-if="lenses.length > 1" class="line">Camera <select :value="lens" @change="change($event.target.value)">
          <option v-for="(each, i) in lenses" :key="each.deviceId" :value="each.deviceId">{{ each.label || 'Camera ' + (i + 1) }}</option>
        </select></label></div></div>
    <div class="stack"><p class="headline" aria-live="polite">{{ seen ? seen.answer : 'Starting' }}</p>
      <dl v-if="seen" class="bars" aria-label="Probabilities"><template v-for="each in seen.shares" :key="each.name">
        <dt :class="{ best: each.best }">{{ each.name }}</dt>
        <dd aria-hidden="true"><i :style="{ width: each.share + '%' }"></i></dd><dd>{{ each.share.toFixed(0) }}%</dd></template></dl>
      <p class="note" v-if="seen">{{ seen.note }}</p><p class="note">{{ rate }}</p></div>
  </div>`;
const FRAME = 288; // the shorter side of what is sent: networks see less
const FIXED = 12; // classes that keep their places
const wait = (time) => new Promise((take) => setTimeout(take, time));

const living = {
  props: { live: String },
  data: () => ({ lens: '', lenses: [], mirrored: false, seen: null, rate: '' }),
  methods: {
    change(lens) { this.close(); this.look(lens); },
    async follow(stream) {
      const settings = stream.getVideoTracks()[0].getSettings();
      Object.assign(this, { lens: settings.deviceId, mirrored: settings.facingMode !== 'environment', seen: null, rate: '' });
      this.lenses = (await navigator.mediaDevices.enumerateDevices()).filter((each) => each.kind === 'videoinput');
      const canvas = document.createElement('canvas');
      let [kept, times] = [{ shares: {}, strange: null }, []];
      while (this.stream === stream) {
        const video = this.$refs.video;
        if (!video?.videoWidth || document.hidden) { await wait(100); continue; }
        const scale = Math.min(1, FRAME / Math.min(video.videoWidth, video.videoHeight));
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight].map((length) => Math.round(length * scale));
        canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
        const body = await new Promise((take) => canvas.toBlob(take, 'image/jpeg', 0.85));
        const reply = await this.answer(body);
        if (this.stream !== stream) return;
        this.fault = '';
        if (!reply.shares) { // refused: by a sign-in that has ended, too
          const { message = 'The studio refused it', advice = 'Load the page again.' } = reply.error ?? {};
          this.fault = `${message}. ${advice}`;
          await wait(1000);
          continue;
        }
        kept = this.follows(kept, reply);
        times = [...times, performance.now()].slice(-20);
        if (times.length > 2) this.rate = `${((times.length - 1) / (times.at(-1) - times[0]) * 1000).toFixed(1)} answers a second`;
      }
    },
    async answer(body) {
      try {
        return await (await fetch(window.path_prefix + this.live, { method: 'POST', body })).json();
      } catch (error) {
        return { error: { message: 'The studio does not answer', advice: 'It is asked again each second.' } };
      }
    },
    // Half of this answer, half of those before: bars move without a flicker.
    follows(kept, reply) {
      const shares = Object.fromEntries(reply.shares.map(([name, share]) => [name, 50 * share + (kept.shares[name] ?? 100 * share) / 2]));
      const strange = (reply.rejected + (kept.strange ?? reply.rejected)) / 2;
      const ranked = Object.keys(shares).sort((a, b) => shares[b] - shares[a]);
      const names = ranked.length > FIXED ? ranked.slice(0, 8) : Object.keys(shares);
      const none = strange > 0.5;
      this.seen = {
        answer: reply.warning || (none ? 'None of these' : ranked[0]),
        shares: names.map((name) => ({ name, share: shares[name], best: name === ranked[0] && !none })),
        note: none ? `It looks unlike the training photographs. Nearest: ${ranked[0]}.` : '',
      };
      return { shares, strange };
    },
  },
};

export default {
  mixins: [living],
  template: `
    <div class="intake" :class="{ over, small }" role="group" :aria-label="label">
      <p v-if="!small && !(stream && live)" class="text-weight-bold">{{ label }}</p>
      <div v-if="!(stream && live)" class="line">
        <label class="intake-choose">{{ small ? 'Add photographs' : multiple ? 'Choose files' : 'Choose a file' }}<input type="file"
          :multiple="multiple" :accept="accept" @change="chosen"></label>
        <label v-if="folders" class="intake-choose">Choose a folder<input type="file" webkitdirectory
          @change="chosen"></label>
        <button v-if="camera && able && !stream" type="button" @click="look('')">{{ small ? 'Camera' : 'Use the camera' }}</button>
        <slot></slot>
        <span v-if="!small" class="note">or drop {{ multiple ? 'them' : 'it' }} here, or paste</span>
      </div>
      <p v-if="camera && !able && !small" class="note">The camera works on this machine (localhost) or over https.</p>
      ${LIVE}
      <div v-if="stream && !live" class="stack full-width"><video ref="video" autoplay playsinline muted
          aria-label="What the camera sees"></video>
        <div class="line"><button v-if="multiple" ref="shutter" type="button" class="primary" :aria-pressed="String(!!recording)"
            @pointerdown.prevent="record" @pointerup="rest" @pointercancel="rest" @lostpointercapture="rest"
            @keydown.space.prevent="record" @keydown.enter.prevent="record" @keyup.space.prevent="rest" @keyup.enter="rest"
            @blur="rest" @contextmenu.prevent>Hold to record</button>
          <button v-else ref="shutter" type="button" class="primary" @click="snap">Take a photograph</button>
          <button type="button" @click="close">Close the camera</button>
          <span class="note" aria-live="polite">{{ taken && !recording ? (taken === 1 ? '1 photograph' : taken + ' photographs') + ' taken' : '' }}</span>
          <span v-if="recording" class="note" aria-hidden="true">{{ taken }}</span></div></div>
      <div v-if="state !== 'idle' && !((small || !multiple) && state === 'done')" class="line full-width">
        <progress :value="total ? done / total : 1" max="1" :aria-label="'Sent of: ' + label"></progress>
        <span aria-live="polite">{{ text }}</span>
        <button v-if="state === 'sending'" type="button" @click="stop">Stop</button>
        <button v-if="state === 'stopped'" type="button" @click="begin">Go on</button>
        <button v-if="state === 'stopped'" type="button" @click="discard">Discard</button>
      </div>
      <p v-if="cut && state === 'idle'" class="note">The upload was cut off. Choose the same files again, and it goes on where it stopped.</p>
      <p v-if="passed.length" class="note">Left out, not {{ packed ? 'photographs or archives' : 'photographs' }}: {{ named(passed) }}.</p>
      <p v-if="fault" class="error" role="alert">{{ fault }}</p>
    </div>`,
  props: {
    label: String, multiple: Boolean, accept: String, camera: Boolean, folders: Boolean, batch: String,
    small: Boolean, around: String, opens: Boolean,
  },
  data: () => ({
    over: false, stream: null, able: !!navigator.mediaDevices?.getUserMedia, state: 'idle',
    done: 0, total: 0, count: 0, text: '', fault: '', cut: false, passed: [], taken: 0, recording: 0,
  }),
  computed: {
    packed() { return this.accept.includes('.zip'); },
  },
  created() {
    // Not among the data: of a hundred thousand files none is watched.
    Object.assign(this, { waiting: [], sent: [], news: [], round: null, began: 0, before: 0 });
    this.pasted = (event) => this.paste(event);
    this.others = (event) => { if (event.detail !== this) this.close(); };
    this.dragging = (event) => {
      if (!event.dataTransfer?.types.includes('Files')) return;
      event.preventDefault();
      this.over = event.type === 'dragover';
      if (event.type === 'drop') { event.stopPropagation(); this.dropped(event); }
    };
    this.leaving = (event) => { if (this.state === 'sending') event.preventDefault(); };
  },
  mounted() {
    this.area = (this.around && this.$el.closest(this.around)) || this.$el;
    for (const type of ['dragover', 'dragleave', 'drop']) this.area.addEventListener(type, this.dragging);
    document.addEventListener('paste', this.pasted);
    window.addEventListener('opsin-camera', this.others);
    if (this.opens) this.look();
    this.cut = sessionStorage.getItem(this.batch) !== null; // before a reload
    window.addEventListener('beforeunload', this.leaving);
  },
  beforeUnmount() {
    for (const type of ['dragover', 'dragleave', 'drop']) this.area.removeEventListener(type, this.dragging);
    document.removeEventListener('paste', this.pasted);
    window.removeEventListener('opsin-camera', this.others);
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
      if (!files.length || event.defaultPrevented) return;
      if (this.small && !this.area.contains(document.activeElement)) return; // of many, the one in use
      event.preventDefault();
      this.send(files.map((file) => ({ file, path: '' })));
    },
    async look(lens) {
      this.fault = '';
      const which = lens ? { deviceId: { exact: lens } } : { facingMode: 'environment' };
      const wanted = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, ...which } };
      try { this.stream = await navigator.mediaDevices.getUserMedia(wanted); } catch (error) {
        this.fault = error.name === 'NotAllowedError' ? 'The camera is blocked. Allow it in the address bar, then try again.'
          : error.name === 'NotFoundError' ? 'There is no camera here. Plug one in, or choose files.'
          : 'The camera cannot be used now. Close other programs that use it, then try again.';
        return;
      }
      if (!this.$el.isConnected) { this.close(); return; } // left meanwhile
      window.dispatchEvent(new CustomEvent('opsin-camera', { detail: this })); // one at a time
      for (const track of this.stream.getTracks()) {
        track.onended = () => { this.close(); this.fault = 'The camera is gone. Plug it in again, then open it.'; };
      }
      await this.$nextTick();
      this.$refs.video.srcObject = this.stream;
      if (document.activeElement?.tagName !== 'INPUT') this.$refs.shutter.focus(); // somebody types a name
      if (this.live) this.follow(this.stream);
    },
    close() {
      this.rest();
      this.stream?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
      this.stream = null;
      this.taken = 0;
    },
    // What the camera sees now, as a JPEG file; null before its first picture.
    async frame() {
      const video = this.$refs.video;
      if (!video?.videoWidth) return null;
      const canvas = Object.assign(document.createElement('canvas'), { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext('2d').drawImage(video, 0, 0);
      return new Promise((take) => canvas.toBlob(take, 'image/jpeg', 0.92));
    },
    async snap() {
      const blob = await this.frame();
      if (!blob) return;
      this.taken += 1;
      this.shot = Math.max(Date.now(), (this.shot ?? 0) + 1); // a name of its own
      this.send([{ file: new File([blob], `camera-${this.shot}.jpg`, { type: 'image/jpeg' }), path: '' }]);
    },
    async record(event) {
      if (this.recording) return; // keys repeat
      if (event.pointerId !== undefined) { event.target.focus(); event.target.setPointerCapture(event.pointerId); }
      const round = this.recording = Date.now();
      while (this.recording === round && this.stream) {
        const next = Date.now() + PERIOD;
        if (this.waiting.length < MOST_WAITING) await this.snap();
        await wait(Math.max(0, next - Date.now()));
      }
    },
    rest() { this.recording = 0; },
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
        sessionStorage.setItem(this.batch, '');
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
      sessionStorage.removeItem(this.batch);
      this.say();
      this.$emit('all', this.sent.length);
    },
    // Sends one file; false where it was not sent to its end.
    async one(entry, signal) {
      const { file, path, key } = entry;
      const address = '/uploads/' + key;
      let asked = file.size > PART;
      do {
        const answer = asked
          ? await this.ask(address, { signal })
          : await this.ask(`${address}?offset=${entry.offset}`, { method: 'PUT', signal, body: file.slice(entry.offset, entry.offset + PART) });
        if (signal.aborted) return false;
        if (!answer && !(await this.readable(file))) {
          [this.total, this.count] = [this.total - file.size + entry.offset, this.count - 1]; // the others can go on
          this.fail({ message: file.name + ' cannot be read', advice: 'It may have been moved or changed: choose it again, or go on without it.' });
          return true;
        }
        if (!answer) { // the studio is away, or the network is
          this.text = 'waiting for the studio';
          await wait(1000);
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
        const reply = await fetch(window.path_prefix + address, how);
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
      sessionStorage.removeItem(this.batch);
      for (const key of keys) await this.ask('/uploads/' + key, { method: 'DELETE' });
    },
    // Says which files have arrived, some at a time.
    tell(now) {
      clearTimeout(this.timer);
      if (!now && this.news.length < 100) { this.timer = setTimeout(() => this.tell(true), 200); return; }
      while (this.news.length) this.$emit('files', this.news.splice(0, 100));
    },
    say() {
      const seconds = (Date.now() - this.began) / 1000;
      const rate = (this.done - this.before) / Math.max(seconds, 0.1);
      const left = this.state === 'sending' && seconds > 2 && rate ? ` · ${clock((this.total - this.done) / rate)} left` : '';
      const files = this.count > 1 ? `${this.sent.length.toLocaleString('en')} of ${this.count.toLocaleString('en')} files · ` : '';
      this.text = `${files}${size(this.done)} of ${size(this.total)}${left}${this.state === 'stopped' ? ' · stopped' : ''}`;
    },
  },
};
