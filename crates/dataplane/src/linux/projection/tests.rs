use proptest::prelude::*;

use super::*;

const V4: Family = Family::V4;

fn front(text: &str) -> Front {
    text.parse().unwrap()
}

/// Bit 14 means masquerade, bit 12 is that of foreign chains.
fn config(family: Family) -> Config {
    let family = match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    };
    Config {
        accept_bit: Some(12),
        ..Config::new(family)
    }
}

fn nets(texts: &[&str]) -> Option<Sources> {
    Some(texts.iter().map(|net| net.parse().unwrap()).collect())
}

fn serve() -> Row {
    Row::of(Verdict::Serve)
}

fn table<const N: usize>(rows: [(&str, Row); N]) -> Table {
    let rows = rows.into_iter();
    Table {
        rows: rows.map(|(at, row)| (front(at), row)).collect(),
        ..Table::default()
    }
}

/// A set and an element on each line.
fn text(elements: &Elements) -> String {
    let all = elements.iter();
    let lines =
        all.flat_map(|(set, texts)| texts.iter().map(move |x| format!("{}  {x}\n", set.name())));
    lines.collect()
}

/// The change from one table to another.
fn edit(from: &Table, to: &Table) -> Edit {
    let mut edit = Edit::default();
    for front in from.rows.keys().chain(to.rows.keys()) {
        let (from, to) = (from.rows.get(front), to.rows.get(front));
        if from != to {
            let turn = kube_ipvs_core::table::Turn {
                from: from.cloned(),
                to: to.cloned(),
            };
            edit.rows.insert(*front, turn);
        }
    }
    edit.guarded = moved(&from.guarded, &to.guarded);
    edit.hairpin = moved(&from.hairpin, &to.hairpin);
    edit.networks = moved(&from.networks, &to.networks);
    edit.untracked = moved(&from.untracked, &to.untracked);
    edit
}

fn moved<K: Ord + Copy>(from: &BTreeSet<K>, to: &BTreeSet<K>) -> Moved<K> {
    Moved {
        add: to - from,
        remove: from - to,
    }
}

#[test]
fn each_part_of_a_row_is_its_elements() {
    let mut all = table([
        (
            "10.96.0.1:80/TCP",
            Row {
                masquerade: Masquerade::OffCluster,
                ..serve()
            },
        ),
        (
            "10.96.0.2:53/UDP",
            Row {
                masquerade: Masquerade::Always,
                ..Row::of(Verdict::Refuse)
            },
        ),
        (
            "203.0.113.5:80/TCP",
            Row {
                inside: Some(0x123),
                sources: nets(&["192.0.2.0/24"]),
                ..Row::of(Verdict::DropOutside)
            },
        ),
        (
            "192.0.2.1:30080/SCTP",
            Row {
                mark: Some(0x4456),
                ..serve()
            },
        ),
        (
            "10.96.0.3:80/TCP",
            Row {
                sources: nets(&[]),
                ..Row::default()
            },
        ),
        ("[fd00::1]:80/TCP", serve()),
    ]);
    all.guarded = ["10.96.0.1", "fd00::1"]
        .map(|at| at.parse().unwrap())
        .into();
    all.hairpin = ["10.244.1.7", "fd00:244::7"]
        .map(|at| at.parse().unwrap())
        .into();
    all.untracked = [
        Untracked::Front("10.96.0.1:80/TCP".parse().unwrap()),
        Untracked::Endpoint("10.244.1.7:8080/TCP".parse().unwrap()),
        Untracked::Own("10.244.1.7".parse().unwrap()),
    ]
    .into();
    all.networks = ["10.96.0.0/16", "fd00:96::/112"]
        .map(|net| net.parse().unwrap())
        .into();

    assert_eq!(
        text(&elements(&all, V4)),
        "vips  10.96.0.1
served-off-cluster  10.96.0.1 . tcp . 80
fronts  10.96.0.2 . udp . 53 : goto refused-always
fronts  10.96.0.3 . tcp . 80 : goto closed-restricted
fronts  192.0.2.1 . sctp . 30080 : goto served
fronts  203.0.113.5 . tcp . 80 : goto outside-restricted
inside-marks  203.0.113.5 . tcp . 80 : 0x00000123
node-port-marks  192.0.2.1 . sctp . 30080 : 0x00004456
hairpin  10.244.1.7
allowed-sources  203.0.113.5 . tcp . 80 . 192.0.2.0/24
service-cidrs  10.96.0.0/16
untracked-fronts  10.96.0.1 . tcp . 80
untracked-endpoints  10.244.1.7 . tcp . 8080
untracked-own  10.244.1.7
"
    );
    assert_eq!(
        text(&elements(&all, Family::V6)),
        "vips  fd00::1
served  fd00::1 . tcp . 80
hairpin  fd00:244::7
service-cidrs  fd00:96::/112
"
    );
}

#[test]
fn ports_with_the_same_networks_share_elements_and_others_come_between() {
    let restricted = |all: &[&str]| Row {
        sources: nets(all),
        ..serve()
    };
    let one = || restricted(&["10.0.0.0/8", "172.16.0.0/12"]);
    let all = table([
        ("203.0.113.5:80/TCP", one()),
        ("203.0.113.5:81/TCP", serve()),
        ("203.0.113.5:82/TCP", one()),
        ("203.0.113.5:82/UDP", one()),
        ("203.0.113.5:83/TCP", restricted(&["10.0.0.0/9"])),
        ("203.0.113.5:84/TCP", one()),
        ("203.0.113.6:84/TCP", one()),
    ]);
    let sources = &elements(&all, V4)[&Set::AllowedSources];
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    assert_eq!(
        sources,
        [
            "203.0.113.5 . tcp . 80-82 . 10.0.0.0/8",
            "203.0.113.5 . tcp . 80-82 . 172.16.0.0/12",
            "203.0.113.5 . tcp . 83 . 10.0.0.0/9",
            "203.0.113.5 . tcp . 84 . 10.0.0.0/8",
            "203.0.113.5 . tcp . 84 . 172.16.0.0/12",
            "203.0.113.5 . udp . 82 . 10.0.0.0/8",
            "203.0.113.5 . udp . 82 . 172.16.0.0/12",
            "203.0.113.6 . tcp . 84 . 10.0.0.0/8",
            "203.0.113.6 . tcp . 84 . 172.16.0.0/12",
        ]
    );
}

#[test]
fn a_change_of_a_row_is_its_own_elements_only() {
    let sources: Sources = (0..100)
        .map(|n| format!("10.{n}.0.0/17").parse().unwrap())
        .collect();
    let row = || Row {
        sources: Some(sources.clone()),
        ..serve()
    };
    let before = table([("203.0.113.5:80/TCP", row()), ("203.0.113.5:84/TCP", row())]);
    let mut after = before.clone();
    // Within the run, and with the same networks: they are there.
    after.rows.insert(front("203.0.113.5:82/TCP"), row());

    let projection = Projection::of(&before, V4);
    let change = projection.change(&edit(&before, &after), V4);

    assert_eq!(text(&change.removed), "");
    assert_eq!(
        text(&change.added),
        "fronts  203.0.113.5 . tcp . 82 : goto served-restricted\n"
    );
}

#[test]
fn a_mark_is_in_use_while_a_row_has_it() {
    let marked = |mark| Row { mark, ..serve() };
    let both = table([
        ("192.0.2.1:30080/TCP", marked(Some(7))),
        ("192.0.2.2:30080/TCP", marked(Some(7))),
    ]);
    let mut one = both.clone();
    one.rows.pop_first();
    let mut projection = Projection::of(&both, V4);
    let first = edit(&both, &one);
    assert_eq!(projection.change(&first, V4).marking, None);
    assert!(projection.marks_after(&first, V4)(7));
    projection.changed(&first, V4);

    let last = edit(&one, &Table::default());
    assert_eq!(projection.change(&last, V4).marking, Some(false));
    assert_eq!(projection.change(&last, Family::V6).marking, None);
    assert!(!projection.marks_after(&last, V4)(7));
    assert!(
        projection.marks_after(&last, Family::V6)(7),
        "of the other family"
    );
    projection.changed(&last, V4);
    assert!(projection.marks.is_empty() && projection.sources.is_empty());
    let again = edit(&Table::default(), &one);
    assert_eq!(projection.change(&again, V4).marking, Some(true));
}

#[test]
fn what_no_row_would_be_is_told() {
    let all = table([(
        "10.96.0.1:80/TCP",
        Row {
            sources: nets(&["192.0.2.0/24"]),
            ..serve()
        },
    )]);
    let ours = elements(&all, V4);
    let understood = |change: &dyn Fn(&mut Elements)| {
        let mut elements = ours.clone();
        change(&mut elements);
        read(&elements, &config(V4), &mut Table::default())
    };
    let add = |set, text: &'static str| {
        move |all: &mut Elements| _ = all.entry(set).or_default().insert(text.to_owned())
    };

    assert!(understood(&|_| {}));
    assert!(understood(&add(Set::Vips, "10.96.0.9")));
    for (set, text) in [
        (Set::Vips, "10.96.0"),
        (Set::Served, "10.96.0.1 . tcp . 80"),
        (Set::Fronts, "10.96.0.1 . tcp . 80 : goto refused"),
        (Set::Fronts, "10.96.0.9 . tcp . 80 : goto served"),
        (Set::Fronts, "10.96.0.9 . tcp . 80 : goto guard"),
        (Set::Fronts, "10.96.0.9 . tcp . 80 : accept"),
        (Set::Served, "10.96.0.9 . icmp . 80"),
        (Set::Served, "10.96.0.9 . tcp . 80-81"),
        (Set::InsideMarks, "10.96.0.9 . tcp . 80 : 12"),
        (Set::AllowedSources, "10.96.0.9 . tcp . 80 . 192.0.2.0/24"),
        (
            Set::AllowedSources,
            "10.96.0.1 . tcp . 80-81 . 198.51.100.0/24",
        ),
    ] {
        assert!(!understood(&add(set, text)), "{} {text}", set.name());
    }
    let without = |set: Set| move |all: &mut Elements| _ = all.remove(&set);
    assert!(!understood(&without(Set::Fronts)));
}

#[test]
fn a_front_with_a_mark_that_none_may_have_is_closed() {
    let closed = |set, mark: u32| {
        let at = "10.96.0.1 . tcp . 80";
        let mut all = Elements::new();
        all.insert(set, [format!("{at} : {mark:#010x}")].into());
        all.insert(Set::Fronts, [format!("{at} : goto served-always")].into());
        let mut table = Table::default();
        let understood = read(&all, &config(V4), &mut table);
        let row = table.rows.remove(&front("10.96.0.1:80/TCP")).unwrap();
        assert_eq!(row.masquerade, Masquerade::Always);
        assert_eq!(understood, row.verdict == Verdict::Serve, "{row}");
        let marked = row.inside.is_some() || row.mark.is_some();
        assert_eq!(understood, marked, "{row}");
        !understood
    };
    assert!(closed(Set::InsideMarks, 0), "0 is no mark");
    assert!(closed(Set::InsideMarks, 0x4001), "it would be masqueraded");
    assert!(closed(Set::InsideMarks, 0x1001), "it would be accepted");
    assert!(closed(Set::NodePortMarks, 0x1001), "it would be accepted");
    assert!(!closed(Set::NodePortMarks, 0x4001), "these may be");
    assert!(!closed(Set::InsideMarks, 0x2001));
}

#[test]
fn a_refused_front_stays_so_whatever_mark_it_has() {
    let at = "10.96.0.1 . tcp . 80";
    let mut all = Elements::new();
    all.insert(Set::InsideMarks, [format!("{at} : 0x00004001")].into());
    all.insert(Set::Fronts, [format!("{at} : goto refused")].into());
    let mut seen = Table::default();
    assert!(!read(&all, &config(V4), &mut seen));
    let refused = ("10.96.0.1:80/TCP", Row::of(Verdict::Refuse));
    assert_eq!(seen, table([refused]));
}

#[test]
fn networks_that_overlap_are_joined() {
    let at = "10.96.0.1 . tcp";
    let sources = [
        format!("{at} . 79-81 . 10.0.0.0/8"),
        format!("{at} . 80 . 10.1.0.0/16"),
        format!("{at} . 80 . 172.16.0.0/12"),
    ];
    let mut all = Elements::new();
    let class = format!("{at} . 80 : goto served-restricted");
    all.insert(Set::Fronts, [class].into());
    all.insert(Set::AllowedSources, sources.into());
    let networks = ["10.96.0.0/16", "10.96.0.0/24", "fd00::/64"];
    all.insert(Set::ServiceCidrs, networks.map(str::to_owned).into());
    let mut seen = Table::default();

    assert!(!read(&all, &config(V4), &mut seen));

    let sources = nets(&["10.0.0.0/8", "172.16.0.0/12"]);
    let mut joined = table([("10.96.0.1:80/TCP", Row { sources, ..serve() })]);
    joined.networks = ["10.96.0.0/16", "fd00::/64"]
        .map(|net| net.parse().unwrap())
        .into();
    assert_eq!(seen, joined);
}

/// Elements of any sets, as the kernel may hold them: a map has one value for
/// a front, and networks may overlap in some sets.
fn anything() -> impl Strategy<Value = Elements> {
    let front = || {
        (0usize..3, 0usize..3, 79u16..83).prop_map(|(a, b, port)| {
            let address = ["203.0.113.5", "203.0.113.6", "0.0.0.0"][a];
            (format!("{address} . {}", ["tcp", "udp", "sctp"][b]), port)
        })
    };
    let net = (any::<[bool; 4]>(), 0u8..6).prop_map(|(bits, length)| {
        let bits = bits.iter().fold(0, |all, bit| all << 1 | u32::from(*bit));
        let net = ipnet::Ipv4Net::new((bits << 28).into(), length);
        IpNet::V4(net.unwrap().trunc())
    });
    let mark = prop_oneof![
        Just(0u32),
        1u32..4,
        Just(0x1001),
        Just(0x4001),
        Just(u32::MAX)
    ];
    let class = prop::sample::select(Class::all().collect::<Vec<_>>());
    let one = (0..Set::ALL.len(), front(), 0u16..3, net, mark, class);
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let mut elements = Elements::new();
        let mut mapped = BTreeSet::new();
        for (set, (at, port), more, net, mark, class) in all {
            let set = Set::ALL[set];
            let text = match set {
                Set::Vips | Set::Hairpin | Set::UntrackedOwn => net.network().to_string(),
                Set::ServiceCidrs => net.to_string(),
                Set::AllowedSources if more == 0 => format!("{at} . {port} . {net}"),
                Set::AllowedSources => format!("{at} . {port}-{} . {net}", port + more),
                Set::InsideMarks | Set::NodePortMarks | Set::Fronts => {
                    if !mapped.insert((set, at.clone(), port)) {
                        continue;
                    }
                    match set {
                        Set::Fronts => format!("{at} . {port} : goto {class}"),
                        _ => format!("{at} . {port} : {mark:#010x}"),
                    }
                }
                Set::Served
                | Set::ServedOffCluster
                | Set::UntrackedFronts
                | Set::UntrackedEndpoints => format!("{at} . {port}"),
            };
            elements.entry(set).or_default().insert(text);
        }
        elements
    })
}

fn rows() -> impl Strategy<Value = Table> {
    let verdict = prop_oneof![
        Just(Verdict::Closed),
        Just(Verdict::Serve),
        Just(Verdict::DropOutside),
        Just(Verdict::Refuse)
    ];
    let masquerade = prop_oneof![
        Just(Masquerade::Never),
        Just(Masquerade::OffCluster),
        Just(Masquerade::Always)
    ];
    let sources = prop_oneof![
        Just(None),
        Just(nets(&[])),
        Just(nets(&["10.0.0.0/8", "172.16.0.0/12"])),
        Just(nets(&["10.0.0.0/9"]))
    ];
    let mark = || prop::option::of(1u32..4);
    let row = (verdict, masquerade, sources, mark(), mark());
    let row = row.prop_map(|(verdict, masquerade, sources, inside, mark)| Row {
        verdict,
        masquerade,
        sources,
        inside,
        mark,
    });
    let fronts = (0usize..3, 80u16..86, 0usize..2);
    let rows = prop::collection::btree_map(fronts, row, 0..12);
    rows.prop_map(|rows| {
        let mut table = Table::default();
        for ((address, port, protocol), row) in rows {
            let address = ["203.0.113.5", "203.0.113.6", "fd00::5"][address];
            let front = Front {
                address: address.parse().unwrap(),
                port,
                protocol: [Protocol::Tcp, Protocol::Udp][protocol],
            };
            if row.mark.is_some() {
                table.guarded.insert(front.address);
                table.hairpin.insert(front.address);
                table.untracked.extend([
                    Untracked::Front(front),
                    Untracked::Endpoint(front),
                    Untracked::Own(front.address),
                ]);
            }
            table.rows.extend(row.said().map(|row| (front, row)));
        }
        table
    })
}

fn put(mut elements: Elements, change: &TableChange) -> Elements {
    for (set, gone) in &change.removed {
        let there = elements.get_mut(set).expect("something to remove");
        for text in gone {
            assert!(there.remove(text), "{} {text} is not there", set.name());
        }
    }
    for (set, come) in &change.added {
        let there = elements.entry(*set).or_default();
        for text in come {
            assert!(there.insert(text.clone()), "{} {text} is there", set.name());
        }
    }
    elements.retain(|_, all| !all.is_empty());
    elements
}

proptest! {
    /// The law of the projection: that of a change is the change of that.
    #[test]
    fn projecting_a_change_is_the_difference_of_the_projections(from in rows(), to in rows()) {
        let edit = edit(&from, &to);
        for family in [V4, Family::V6] {
            let mut projection = Projection::of(&from, family);
            let change = projection.change(&edit, family);

            let reached = put(elements(&from, family), &change);
            prop_assert_eq!(&reached, &elements(&to, family));
            for set in Set::ALL {
                let (gone, come) = (change.removed.get(&set), change.added.get(&set));
                let both = gone.zip(come).map_or(0, |(a, b)| a.intersection(b).count());
                prop_assert_eq!(both, 0, "what stays is left alone");
            }

            projection.changed(&edit, family);
            let fresh = Projection::of(&to, family);
            prop_assert_eq!(projection.sources, fresh.sources);
            let marked = |table: &Table| rows_of(table, family).any(|(_, row)| marks(row).count() > 0);
            let marking = (marked(&from) != marked(&to)).then(|| marked(&to));
            prop_assert_eq!(change.marking, marking);
            prop_assert_eq!(projection.marks, fresh.marks);
            prop_assert_eq!(projection.marked, fresh.marked);
        }
    }

    #[test]
    fn rows_survive_the_way_through_elements(table in rows()) {
        let mut seen = Table::default();
        for family in [V4, Family::V6] {
            prop_assert!(read(&elements(&table, family), &config(family), &mut seen));
        }
        prop_assert_eq!(seen, table);
    }

    /// A table that could not be made again would never be right again.
    #[test]
    fn whatever_the_kernel_holds_can_be_made_again_as_it_is_read(held in anything()) {
        let config = config(V4);
        let mut seen = Table::default();
        let understood = read(&held, &config, &mut seen);

        let made = elements(&seen, V4);
        prop_assert!(nft::render_table(&config, &made).is_ok(), "{:?}", made);
        let mut again = Table::default();
        prop_assert!(read(&made, &config, &mut again));
        prop_assert_eq!(&again, &seen);
        prop_assert_eq!(understood, made == held);
    }
}

/// Every row that a front may have while it is open.
fn open_rows() -> Vec<Row> {
    let mut all = Vec::new();
    for verdict in [Verdict::Serve, Verdict::DropOutside] {
        for masquerade in [
            Masquerade::Never,
            Masquerade::OffCluster,
            Masquerade::Always,
        ] {
            for sources in [None, nets(&["192.0.2.0/24"])] {
                for (inside, mark) in [(None, None), (Some(0x10), None), (None, Some(0x20))] {
                    all.push(Row {
                        verdict,
                        masquerade,
                        sources: sources.clone(),
                        inside,
                        mark,
                    });
                }
            }
        }
    }
    all
}

fn pairs() -> impl Iterator<Item = (Row, Row)> {
    let all = open_rows();
    let froms = all.clone().into_iter();
    froms.flat_map(move |from| all.clone().into_iter().map(move |to| (from.clone(), to)))
}

/// What the sets hold before a change from one row to another, between its two
/// transactions, and after.
fn moments(from: &Row, to: &Row) -> [Elements; 3] {
    let at = |row: &Row| table([("10.96.0.1:80/TCP", row.clone())]);
    let (from, to) = (at(from), at(to));
    let mut between = elements(&from, V4);
    for (set, texts) in Projection::arrivals(&edit(&from, &to), V4) {
        between.entry(set).or_default().extend(texts);
    }
    [elements(&from, V4), between, elements(&to, V4)]
}

/// A packet asks one set after the other, and a transaction may come between.
#[test]
fn an_open_front_is_found_at_every_moment_of_a_change() {
    let orders = [
        [Set::Served, Set::ServedOffCluster, Set::Fronts],
        [Set::ServedOffCluster, Set::Served, Set::Fronts],
    ];
    let mut moved = 0;
    for (from, to) in pairs() {
        let moments = moments(&from, &to);
        moved += usize::from(moments[0] != moments[1]);
        for (asked, late) in orders
            .iter()
            .flat_map(|asked| (0..=3).map(move |late| (asked, late)))
        {
            for pair in moments.windows(2) {
                let holds = |moment: &Elements, set| moment.get(set).is_some_and(|x| !x.is_empty());
                let (first, then) = asked.split_at(late);
                let found = first.iter().any(|set| holds(&pair[0], set))
                    || then.iter().any(|set| holds(&pair[1], set));
                assert!(found, "{from:?} to {to:?}, after {late} of {asked:?}");
            }
        }
    }
    assert_ne!(moved, 0);
}
