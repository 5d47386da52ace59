//! libsrtp2, loaded at run time where it is installed: a peer to measure against.

use std::ffi::{CStr, c_int, c_uint, c_ulong, c_void};
use std::ptr::null_mut;

use moonring_wire::transport::srtp::SrtpProfile;

/// What Debian's package `libsrtp2-1` installs.
const NAME: &CStr = c"libsrtp2.so.1";
/// `SRTP_MAX_TRAILER_LEN`: what a buffer has room for behind a packet that is to be sealed.
const MAX_TRAILER: usize = 144;
/// `ssrc_specific`.
const SPECIFIC: c_uint = 1;

type Init = unsafe extern "C" fn() -> c_int;
type SetProfile = unsafe extern "C" fn(*mut CryptoPolicy, c_int) -> c_int;
type Create = unsafe extern "C" fn(*mut *mut c_void, *const Policy) -> c_int;
type Dealloc = unsafe extern "C" fn(*mut c_void) -> c_int;
type Work = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_int) -> c_int;

/// `srtp_crypto_policy_t`: six integers that the library fills in.
type CryptoPolicy = [c_int; 6];

/// `srtp_policy_t` of libsrtp 2.x.
#[repr(C)]
struct Policy {
    ssrc_type: c_uint,
    ssrc: c_uint,
    rtp: CryptoPolicy,
    rtcp: CryptoPolicy,
    key: *mut u8,
    keys: *mut c_void,
    num_master_keys: c_ulong,
    deprecated_ekt: *mut c_void,
    window_size: c_ulong,
    allow_repeat_tx: c_int,
    enc_xtn_hdr: *mut c_int,
    enc_xtn_hdr_count: c_int,
    next: *mut c_void,
}

/// The library's functions.
#[derive(Clone, Copy)]
pub struct Library {
    set_rtp: SetProfile,
    set_rtcp: SetProfile,
    create: Create,
    dealloc: Dealloc,
    protect: Work,
    unprotect: Work,
}

impl Library {
    /// Loads the library for the rest of the process's life; none where it is not installed.
    pub fn load() -> Option<Self> {
        // SAFETY: the name ends with a zero; the library's initialisers do nothing but set up its memory.
        let handle = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            return None;
        }
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open and never closed; the name ends with a zero.
            let at = unsafe { libc::dlsym(handle, name.as_ptr()) };
            (!at.is_null()).then_some(at)
        };
        // SAFETY: these are the functions' types in srtp.h of libsrtp 2, whose soname was asked for.
        let (init, library) = unsafe {
            let set_rtp = symbol(c"srtp_crypto_policy_set_from_profile_for_rtp")?;
            let set_rtcp = symbol(c"srtp_crypto_policy_set_from_profile_for_rtcp")?;
            let library = Self {
                set_rtp: std::mem::transmute::<*mut c_void, SetProfile>(set_rtp),
                set_rtcp: std::mem::transmute::<*mut c_void, SetProfile>(set_rtcp),
                create: std::mem::transmute::<*mut c_void, Create>(symbol(c"srtp_create")?),
                dealloc: std::mem::transmute::<*mut c_void, Dealloc>(symbol(c"srtp_dealloc")?),
                protect: std::mem::transmute::<*mut c_void, Work>(symbol(c"srtp_protect")?),
                unprotect: std::mem::transmute::<*mut c_void, Work>(symbol(c"srtp_unprotect")?),
            };
            (std::mem::transmute::<*mut c_void, Init>(symbol(c"srtp_init")?), library)
        };
        // SAFETY: called once, before everything else, as the library wants it.
        let outcome = unsafe { init() };
        (outcome == 0).then_some(library)
    }

    /// A session for one stream whose replay window remembers `window` packets; none if the library was built without the profile.
    pub fn session(self, profile: SrtpProfile, key_and_salt: &[u8], ssrc: u32, window: usize) -> Option<Session> {
        assert_eq!(key_and_salt.len(), profile.key_len() + profile.salt_len());
        let number = match profile {
            SrtpProfile::Aes128CmHmacSha1_80 => 1,
            SrtpProfile::AeadAes128Gcm => 7,
            SrtpProfile::AeadAes256Gcm => 8,
        };
        let mut key = key_and_salt.to_vec();
        let mut policy = Policy {
            ssrc_type: SPECIFIC,
            ssrc,
            rtp: [0; 6],
            rtcp: [0; 6],
            key: key.as_mut_ptr(),
            keys: null_mut(),
            num_master_keys: 0,
            deprecated_ekt: null_mut(),
            window_size: window as c_ulong,
            allow_repeat_tx: 0,
            enc_xtn_hdr: null_mut(),
            enc_xtn_hdr_count: 0,
            next: null_mut(),
        };
        let mut session = null_mut();
        // SAFETY: the policy has the library's layout and lives until it was copied, as the key does, which is as long
        // as the profile says.
        let outcome = unsafe {
            (self.set_rtp)(&mut policy.rtp, number)
                | (self.set_rtcp)(&mut policy.rtcp, number)
                | (self.create)(&mut session, &policy)
        };
        (outcome == 0).then_some(Session { library: self, session })
    }
}

/// `srtp_t`.
pub struct Session {
    library: Library,
    session: *mut c_void,
}

impl Session {
    /// Seals the RTP packet in `buffer[..len]` in place; its new length. `buffer` has room for
    /// [`MAX_TRAILER`] bytes more.
    pub fn protect(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        assert!(len + MAX_TRAILER <= buffer.len());
        self.work(self.library.protect, buffer, len)
    }

    /// Opens the RTP packet in place; its length without tag.
    pub fn unprotect(&mut self, packet: &mut [u8]) -> Option<usize> {
        let len = packet.len();
        self.work(self.library.unprotect, packet, len)
    }

    fn work(&mut self, work: Work, buffer: &mut [u8], len: usize) -> Option<usize> {
        let mut len = c_int::try_from(len).ok()?;
        // SAFETY: the session is open; the buffer holds `len` bytes and, for sealing, what the library adds.
        let outcome = unsafe { work(self.session, buffer.as_mut_ptr().cast(), &mut len) };
        (outcome == 0).then_some(len as usize)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session is open, and nobody uses it after this.
        unsafe { (self.library.dealloc)(self.session) };
    }
}
