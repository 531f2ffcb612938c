//! Every answer and event as text.

use insta::assert_snapshot;

use super::{super::samples, *};

const PIPED: Text = Text { terminal: false, colour: false };
const TERMINAL: Text = Text { terminal: true, colour: false };

fn answers(text: Text) -> String {
    let asked = Asked { name: "command", command: None };
    let answer = |reply| text.answer(&asked, &Ok(Outcome { reply, stale: false }));
    samples::replies().into_iter().map(answer).collect()
}

#[test]
fn piped_answers_are_plain_lines() {
    assert_snapshot!(answers(PIPED), @r"
    Logged in as ann. 2 files shared again. 1 download going on.
    Not shared: [music] old.bin: the file has changed; upload it again
    abababababab	2023-11-14T22:13:20.123Z	10.0.0.2:6000	ed25519:vov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvovq	this one
    cdcdcdcdcdcd	2023-11-14T22:13:20.123Z	offline	ed25519:zxg43tonzxg43tonzxg43tonzxg43tonzxg43tonzxg43tonzxgq
    You are no member any more. bob owns the group now.
    bob	2023-11-14T22:13:20.123Z
    music	ann	12	owner
    films	bob	1	none
    ann	owner	online
    Sharing [music] a song.mp3: 1.4 MiB, 3 pieces, SHA-1 abababababababababababababababababababab
    a song.mp3	1500000	3	2	1	ann,bob
    File:         a song.mp3
    Size:         1500000 bytes (1.4 MiB)
    Pieces:       3 of 512 KiB
    SHA-1:        abababababababababababababababababababab
    BLAKE3:       cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
    Hash string:  a9993e364706816aba3ea9993e364706816aba3ea9993e364706816aba3e
    bob	10.0.0.2:6000	100 %
    Downloading [music] a song.mp3 to /tmp/a song.mp3; nobody who has it is online, so it waits for somebody.
    [D] [music] a song.mp3
    [C] [music] 完了.bin
    [P] [music] txt.gpj
    [F] [music] f
    bob	10.0.0.2:6000	43 %	2097152/s	1024/s	dialled back
    [music]	a song.mp3	1073741824	3221225472	/home/ann/a song.mp3
    [music]	old.bin	1073741824	3221225472	/home/ann/old.bin	suspended: the file has changed
    Of 3 pieces 1 are damaged and fetched again: 1
    User:     ann
    Address:  127.0.0.1:6000
    Device:   ed25519:a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq
    1	10.0.0.1:5001	reachable	in use	in sync
    2	10.0.0.1:5002	reachable	-	1 change behind
    3	10.0.0.1:5003	refused	-	unknown
    ");
}

#[test]
fn a_terminal_gets_headings_and_aligned_columns() {
    assert_snapshot!(answers(TERMINAL), @r"
    Logged in as ann. 2 files shared again. 1 download going on.
    Not shared: [music] old.bin: the file has changed; upload it again
    SESSION       SINCE                     ADDRESS        DEVICE
    abababababab  2023-11-14T22:13:20.123Z  10.0.0.2:6000  ed25519:vov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvov2xk5lvovq  this one
    cdcdcdcdcdcd  2023-11-14T22:13:20.123Z  offline        ed25519:zxg43tonzxg43tonzxg43tonzxg43tonzxg43tonzxg43tonzxgq
    You are no member any more. bob owns the group now.
    USER  SINCE
    bob   2023-11-14T22:13:20.123Z
    GROUP  OWNER  MEMBERS  YOU
    music  ann    12       owner
    films  bob    1        none
    USER  ROLE
    ann   owner  online
    Sharing [music] a song.mp3: 1.4 MiB, 3 pieces, SHA-1 abababababababababababababababababababab
    FILE        SIZE     PIECES  SEEDERS  LEECHERS  SHARED BY
    a song.mp3  1.4 MiB  3       2        1         ann,bob
    File:         a song.mp3
    Size:         1500000 bytes (1.4 MiB)
    Pieces:       3 of 512 KiB
    SHA-1:        abababababababababababababababababababab
    BLAKE3:       cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
    Hash string:  a9993e364706816aba3ea9993e364706816aba3ea9993e364706816aba3e
    WHO HAS IT  ADDRESS        PERCENT
    bob         10.0.0.2:6000  100 %
    Downloading [music] a song.mp3 to /tmp/a song.mp3; nobody who has it is online, so it waits for somebody.
    [D] [music] a song.mp3  42 % of 10.0 MiB  3.0 MiB/s  4 peers  1:15 left
    [C] [music] 完了.bin  100 % of 10.0 MiB
    [P] [music] txt.gpj  0 % of 10.0 MiB  The disk is full. Make room, then resume_download.
    [F] [music] f  0 % of 10.0 MiB  No peer has a valid piece 3.
    USER  ADDRESS        HAS   DOWN       UP         STATE
    bob   10.0.0.2:6000  43 %  2.0 MiB/s  1.0 KiB/s  dialled back
    GROUP    FILE        SIZE     UPLOADED  PATH
    [music]  a song.mp3  1.0 GiB  3.0 GiB   /home/ann/a song.mp3
    [music]  old.bin     1.0 GiB  3.0 GiB   /home/ann/old.bin     suspended: the file has changed
    Of 3 pieces 1 are damaged and fetched again: 1
    User:     ann
    Address:  127.0.0.1:6000
    Device:   ed25519:a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq
    NO  ADDRESS        STATE      USE     SYNC
    1   10.0.0.1:5001  reachable  in use  in sync
    2   10.0.0.1:5002  reachable  -       1 change behind
    3   10.0.0.1:5003  refused    -       unknown
    error[protocol]: The tracker shows another key.
    ");
}

#[test]
fn empty_listings_say_so_on_a_terminal_only() {
    let reply = || Ok(Outcome { reply: Reply::Groups(Vec::new()), stale: false });
    let asked = Asked { name: "list_groups", command: None };
    assert_eq!(PIPED.answer(&asked, &reply()), "");
    assert_eq!(TERMINAL.answer(&asked, &reply()), "No groups yet: create_group makes one.\n");
}

#[test]
fn piped_downloads_are_exactly_state_group_and_file() {
    let asked = Asked { name: "show_downloads", command: None };
    let show = |verbose| {
        let reply = Reply::Downloads { verbose, downloads: samples::downloads() };
        PIPED.answer(&asked, &Ok(Outcome { reply, stale: false }))
    };
    assert_snapshot!(show(false), @r"
    [D] [music] a song.mp3
    [C] [music] 完了.bin
    [P] [music] txt.gpj
    [F] [music] f
    ");
    assert_snapshot!(show(true), @r"
    [D] [music] a song.mp3  42 % of 10.0 MiB  3.0 MiB/s  4 peers  1:15 left
    [C] [music] 完了.bin  100 % of 10.0 MiB
    [P] [music] txt.gpj  0 % of 10.0 MiB  The disk is full. Make room, then resume_download.
    [F] [music] f  0 % of 10.0 MiB  No peer has a valid piece 3.
    ");
}

#[test]
fn failures_and_stale_answers_are_marked() {
    let asked = Asked { name: "login", command: None };
    let failed = PIPED.answer(&asked, &Err(samples::failure()));
    let stale = PIPED.answer(&asked, &Ok(Outcome { reply: Reply::Groups(Vec::new()), stale: true }));
    assert_snapshot!(failed + &stale, @r"
    error[bad_credentials]: The user name or the password is wrong. Check both and try again.
    (may be out of date: the tracker has yet to catch up)
    ");
    let coloured = Text { terminal: true, colour: true };
    assert_eq!(
        coloured.answer(&asked, &Err(Failure::new(samples::failure().code, "No."))),
        "\x1b[31merror[bad_credentials]:\x1b[0m No.\n"
    );
}

#[test]
fn events_are_sentences() {
    let text: String = samples::events().iter().map(|event| PIPED.event(event)).collect();
    assert_snapshot!(text, @r"
    * bob asks to join music: accept_request music bob
    * You are a member of music now.
    * You were removed from music.
    * The account ann is called ann~2 now: the name was claimed earlier at another tracker.
    * Your session has ended, from another device or by a new password: log in again.
    * [music] 完了.bin is complete: /home/ann/完了.bin
    * [music] f failed: No peer has a valid piece 3.
    * [music] old.bin is not shared: the file has changed; upload it again
    * Lost tracker 10.0.0.1:5000; trying the others.
    * No tracker answers. Transfers go on; commands wait for one.
    * No peer can connect for now: Too many open files (os error 24).
    * Hashing /home/ann/a song.mp3: 25 %
    ");
}

#[test]
fn help_shows_all_or_one() {
    let asked = Asked { name: "help", command: None };
    let one = super::super::super::command::table::find("download_file");
    assert_snapshot!(PIPED.help(&asked, None) + &PIPED.help(&asked, one), @r"
    create_user <user> [passwd]                 register a new account
    login <user> [passwd]                       log in; unfinished downloads go on and earlier shares come back
    logout                                      log out; nothing is shared until the next login
    change_password [old new]                   change your password
    list_sessions                               list where you are logged in: session, device, since when, address while online
    end_session <session>                       log out one of your devices, wherever it is
    close_account [passwd]                      close your account for good, on all devices
    whoami                                      show who is logged in, where this client serves, and its device key
    create_group <group>                        create a group; you own it
    join_group <group>                          ask to join a group
    leave_group <group>                         leave a group, or withdraw the request to join it
    list_groups                                 list every group: owner, members, your own standing
    list_members <group>                        list a group's members (for members)
    list_requests <group>                       list who asks to join, oldest first (for the owner)
    accept_request <group> <user>               let somebody join (for the owner)
    reject_request <group> <user>               refuse a request to join (for the owner)
    remove_member <group> <user>                end somebody's membership at once (for the owner)
    transfer_group <group> <user>               hand a group to another member (for the owner)
    upload_file <path> <group>                  share a file with a group
    list_files <group>                          list a group's files: size, pieces, seeders, leechers, who shared it
    file_info <group> <file>                    show a file's size, hashes, and who has how much of it
    download_file <group> <file> <destination>  download a file, in the background, from everybody who has it
    show_downloads [-v]                         list downloads: [D] going on, [C] complete, [P] paused, [F] failed
    pause_download <group> <file>               pause a download
    resume_download <group> <file>              go on with a paused or failed download
    cancel_download <group> <file>              give up a download and remove what it has
    wait [group file]                           wait until a download, or every one, has ended
    show_peers <group> <file>                   show the swarm of a file: address, user, percent, rates, state
    show_shares                                 list what this client shares, with the bytes uploaded
    stop_share <group> <file>                   stop sharing a file from here
    verify_file <group> <file>                  read the local copy again and name damaged pieces
    set_limit up|down <rate>                    limit uploads or downloads: 10MiB or 500KB a second, 0 for no limit
    trackers                                    show each tracker: address, reachable, in use, how far it is in sync
    help [command]                              show the commands, or one of them
    quit                                        end this client

    Names and paths with spaces stand in quotes. `help <command>` tells more about one.
    download_file <group> <file> <destination>
        download a file, in the background, from everybody who has it
        The destination is a folder, or the path of a file that does not exist yet. `wait` waits for the end; a download cut short goes on at the next login.
    ");
}
