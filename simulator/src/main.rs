use lock::config::{Config, PROGRAM, Slots};
use psl::args::Given;
use simulator::herd::Mix;
use simulator::node::{Node, run};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

fn config() -> Config {
    let given = Given::read(&PROGRAM, Vec::new(), |_| None).unwrap_or_else(|e| panic!("{e}"));
    Config::from(given).unwrap_or_else(|e| panic!("{e:?}"))
}

fn main() {
    let config = config();
    let zero = Instant::now();
    let verbose = std::env::args().any(|a| a == "-v");
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let only = std::env::var("ONLY").ok();
    let path = format!("/tmp/best.cache{}", std::env::var("ARRIVE").unwrap_or_default());
    let cache: HashMap<String, (f64, usize, usize)> = std::fs::read_to_string(&path)
        .unwrap_or_default()
        .lines()
        .filter_map(|l| {
            let p: Vec<&str> = l.split('\t').collect();
            Some((p[0].to_string(), (p[1].parse().ok()?, p[2].parse().ok()?, p[3].parse().ok()?)))
        })
        .collect();
    let cache = Mutex::new(cache);
    let mut jobs = Vec::new();
    for (at, (mix, name)) in Mix::ALL.into_iter().enumerate() {
        if only.as_ref().is_some_and(|o| !o.split(',').any(|o| name.contains(o))) {
            continue;
        }
        for cores in [2usize, 8, 64] {
            for pods in [20usize, 60, 200] {
                for latency in [0.0, 1.0, 2.0] {
                    for seed in 0..seeds {
                        if std::env::var("CASE").is_ok_and(|c| c != format!("{cores} {pods} {latency} {seed}")) {
                            continue;
                        }
                        if cores == 64 && pods < 100 && mix != Mix::Wide {
                            continue;
                        }
                        jobs.push((at, mix, name, cores, pods, latency, seed));
                    }
                }
            }
        }
    }
    let next = Mutex::new(0);
    let results = Mutex::new(vec![None; jobs.len()]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| loop {
        let at = { let mut n = next.lock().unwrap(); *n += 1; *n - 1 };
        let Some(&(_, mix, name, cores, pods, latency, seed)) = jobs.get(at) else { return };
        let mut herd = mix.herd(pods, cores, latency, 7 + pods as u64 + 1000 * seed);
        let rate: f64 = std::env::var("ARRIVE").ok().and_then(|s| s.parse().ok()).unwrap_or(0.0);
        if rate > 0.0 { for (n, a) in herd.iter_mut().enumerate() { a.arrives = n as f64 / rate / cores as f64; } }
        let work: f64 = herd.iter().map(|a| a.work()).sum();
        let node = |slots| Node { cores, background: 0, deadline: 6.0, back_off: 10.0, slots, duration: 120.0, ready: true, cut_off: 2000.0 };
        let key = format!("{name} {cores} {pods} {latency} {seed}");
        let known = cache.lock().unwrap().get(&key).copied();
        let best = known.unwrap_or_else(|| {
            let mut best = (f64::MAX, 0, 0);
            let mut fixed = vec![1usize];
            while *fixed.last().unwrap() < pods { let last = fixed[fixed.len() - 1]; fixed.push((last + 1).max(last * 5 / 4)); }
            for k in fixed {
                let limit = best.0.min(1e4) + 1.0;
                let m = run(&Node { cut_off: limit, ..node(Slots::Fixed(k)) }, &herd, &config, zero);
                if let Some(home) = m.home && home < best.0 { best = (home, k, m.kills); }
            }
            cache.lock().unwrap().insert(key, best);
            best
        });
        if std::env::var("FIXED").is_ok() { for k in [1,2,3,4,6,8,12,16,24,32,64,128,256] { let m = run(&node(Slots::Fixed(k)), &herd, &config, zero); eprintln!("   {k}: {:.1} kills {}", m.home.unwrap_or(9999.0), m.kills); } }
        let m = run(&node(Slots::Auto { cores, most: 16 * cores }), &herd, &config, zero);
        let home = m.home.unwrap_or(9999.0);
        let what = format!("{name} cores {cores} pods {pods} L {latency}: best {:.1} with {} ({} kills), auto {home:.1} = {:.2}, kills {}, peak {}, lower {:.1}", best.0, best.1, best.2, home / best.0, m.kills, m.peak, work / cores as f64);
        let slots = format!("{:?}", m.slots.iter().map(|(t, n)| format!("{t:.1}:{n}")).collect::<Vec<_>>().join(" "));
        results.lock().unwrap()[at] = Some((home / best.0, m.kills, what, slots));
    });
        }
    });
    let results = results.into_inner().unwrap();
    let mut penalty = 0.0;
    let (mut sum, mut count, mut kills, mut most, mut over) = (0.0, 0.0, 0, 0, 0);
    let mut worst = (0.0, String::new());
    for (at, (_, name)) in Mix::ALL.into_iter().enumerate() {
        let mut line = Vec::new();
        let (mut s, mut c) = (0.0, 0.0);
        for (job, r) in jobs.iter().zip(&results) {
            if job.0 != at {
                continue;
            }
            let (ratio, k, what, slots) = r.as_ref().unwrap();
            if job.6 == 0 {
                line.push(format!("{ratio:.2}{}", if *k > 0 { format!("({k})") } else { String::new() }));
            }
            sum += ratio.min(4.0);
            penalty += 2.0 * (ratio - 1.45).max(0.0).min(3.0) + 0.3 * (*k as f64 - 1.0).max(0.0).min(10.0);
            count += 1.0;
            kills += k;
            most = most.max(*k);
            s += ratio;
            c += 1.0;
            over += usize::from(*ratio > 1.5 || *k > 2);
            if *ratio > worst.0 {
                worst = (*ratio, what.clone());
            }
            if verbose {
                println!("{what}");
                if std::env::args().any(|a| a == "-s") {
                    println!("   {slots}");
                }
            }
        }
        if !line.is_empty() {
            println!("{name:16} {:.2} | {}", s / c, line.join(" "));
        }
    }
    println!(
        "obj {:.4} mean {:.3} over {over}/{count} worst {:.2} [{}] kills {kills} most {most}",
        sum / count + penalty / count,
        sum / count,
        worst.0,
        worst.1
    );
    let cache = cache.into_inner().unwrap();
    let text: String = cache.iter().map(|(k, v)| format!("{k}\t{}\t{}\t{}\n", v.0, v.1, v.2)).collect();
    std::fs::write(path, text).unwrap();
}
