//! What a rule takes, what it lets in, and what becomes of a machine that comes again.

use super::*;

fn aws(region: Option<&str>, role: Option<&str>) -> Conditions {
    let own = |text: Option<&str>| text.map(str::to_owned);
    Conditions::Aws { account: "111122223333".to_owned(), region: own(region), role: own(role), vpc: None }
}

fn instance(account: &str, region: Option<&str>, role: Option<&str>) -> Machine {
    let own = |text: Option<&str>| text.map(str::to_owned);
    let instance = "i-0123456789abcdef0".to_owned();
    Machine::Aws { account: account.to_owned(), region: own(region), role: own(role), vpc: None, instance }
}

#[test]
fn nothing_that_could_be_a_pattern_is_taken() {
    assert_eq!(aws(Some("eu-central-1"), Some("worker")).check(), Ok(()));
    assert_eq!(aws(Some("us-gov-west-1"), None).check(), Ok(()));
    for account in ["", "*", "11112222333", "1111222233334", "11112222333*", "arn:aws:iam::111122223333:root"] {
        let rule = Conditions::Aws { account: account.to_owned(), region: None, role: None, vpc: None };
        assert_eq!(rule.check().unwrap_err().condition, "aws-account", "{account}");
    }
    for region in ["", "*", "eu-*", "eu", "eu-central", "eu-central-1.evil", "EU-central-1", "eu-central-1 ", "eu--1"] {
        assert_eq!(aws(Some(region), None).check().unwrap_err().condition, "aws-region", "{region}");
    }
    for role in ["", "*", "a/b", "work*", "arn:aws:iam::1:role/x"] {
        assert_eq!(aws(None, Some(role)).check().unwrap_err().condition, "aws-role", "{role}");
    }
    let gcp = |project: &str, zone: Option<&str>, account: Option<&str>| Conditions::Gcp {
        project: project.to_owned(),
        zone: zone.map(str::to_owned),
        service_account: account.map(str::to_owned),
    };
    assert_eq!(gcp("my-project-1", Some("europe-west3-a"), Some("w@p.iam.gserviceaccount.com")).check(), Ok(()));
    assert_eq!(gcp("example.com:old-one", None, None).check(), Ok(()));
    for (rule, condition) in [
        (gcp("*", None, None), "gcp-project"),
        (gcp("my-project", Some("europe-*"), None), "gcp-zone"),
        (gcp("my-project", None, Some("*@p.iam.gserviceaccount.com")), "gcp-service-account"),
        (Conditions::Azure { subscription: "*".to_owned() }, "azure-subscription"),
        (Conditions::Azure { subscription: "0A000000-0000-0000-0000-000000000001".to_owned() }, "azure-subscription"),
    ] {
        assert_eq!(rule.check().unwrap_err().condition, condition);
    }
}

#[test]
fn each_condition_is_named_when_it_does_not_hold() {
    let found = |rule: &Conditions, machine: &Machine| rule.admits(machine).map_err(|mismatch| mismatch.condition());
    let whole = instance("111122223333", Some("eu-central-1"), Some("worker"));
    assert_eq!(found(&aws(Some("eu-central-1"), Some("worker")), &whole), Ok(()));
    assert_eq!(found(&aws(None, None), &whole), Ok(()));
    assert_eq!(found(&aws(Some("eu-west-1"), None), &whole), Err("aws-region"));
    assert_eq!(found(&aws(None, Some("admin")), &whole), Err("aws-role"));
    // The same role name in another account is another role.
    let foreign = instance("999922223333", Some("eu-central-1"), Some("worker"));
    assert_eq!(found(&aws(Some("eu-central-1"), Some("worker")), &foreign), Err("aws-account"));
    // What nothing proves does not hold.
    assert_eq!(
        found(&aws(Some("eu-central-1"), None), &instance("111122223333", None, Some("worker"))),
        Err("aws-region")
    );
    assert_eq!(
        found(&aws(None, Some("worker")), &instance("111122223333", Some("eu-central-1"), None)),
        Err("aws-role")
    );
    assert_eq!(found(&aws(None, None), &instance("111122223333", None, Some("anything"))), Err("aws-account"));
    assert_eq!(found(&aws(None, Some("worker")), &instance("111122223333", None, Some("worker"))), Ok(()));

    // The same number in another partition is another account.
    let china = instance("111122223333", Some("cn-north-1"), Some("worker"));
    assert_eq!(found(&aws(None, Some("worker")), &china), Err("aws-region"));
    assert_eq!(found(&aws(Some("cn-north-1"), Some("worker")), &china), Ok(()));

    let machine = Machine::Azure { subscription: "s".to_owned(), instance: "v".to_owned() };
    assert_eq!(found(&aws(None, None), &machine), Err("cloud"));
    let rule = Conditions::Azure { subscription: "t".to_owned() };
    let mismatch = rule.admits(&machine).unwrap_err();
    assert_eq!(mismatch.condition(), "azure-subscription");
    assert!(mismatch.to_string().contains("`t`") && !mismatch.outside().contains("`t`"), "{mismatch}");
}

#[test]
fn a_rule_says_the_same_after_the_disk() {
    let rule = aws(Some("eu-central-1"), None);
    let json = serde_json::to_value(&rule).unwrap();
    assert_eq!(json, serde_json::json!({"cloud": "aws", "account": "111122223333", "region": "eu-central-1"}));
    assert_eq!(serde_json::from_value::<Conditions>(json).unwrap(), rule);
    let unknown = serde_json::json!({"cloud": "aws", "account": "111122223333", "subnet": "subnet-1"});
    assert!(serde_json::from_value::<Conditions>(unknown).is_err());
}

#[test]
fn every_way_to_come_again_is_decided() {
    let flag = |bits: u8, bit: u8| bits & (1 << bit) != 0;
    for bits in 0..64 {
        let former = Former {
            same_request: flag(bits, 0),
            has_key: flag(bits, 1),
            revoked: flag(bits, 2),
            allowed: flag(bits, 3),
            gone: flag(bits, 4),
            expired: flag(bits, 5),
        };
        let rejoin = former.rejoins();
        // Whoever was cut off comes in by a person's word alone, and never as the agent it was.
        if former.revoked {
            let wanted = if former.allowed { Rejoin::Replace } else { Rejoin::Refuse(Refusal::Revoked) };
            assert_eq!(rejoin, wanted, "{former:?}");
        } else {
            assert_eq!(rejoin == Rejoin::Same, former.same_request || former.has_key, "{former:?}");
            let over = former.allowed || former.gone || former.expired;
            assert_eq!(rejoin == Rejoin::Refuse(Refusal::Joined), !over && rejoin != Rejoin::Same, "{former:?}");
        }
    }
}

#[test]
fn host_names_are_made_of_regions_only() {
    for good in ["eu-central-1", "us-east-1", "ap-southeast-10", "cn-north-1", "us-gov-east-1", "us-iso-east-1"] {
        assert!(is_region(good), "{good}");
    }
    for bad in [
        "eu.central-1",
        "eu-central-1/",
        "eu-central-1@evil",
        "eu-central-1.amazonaws.com.evil",
        "-",
        "a-b-1",
        "eu-central-111",
    ] {
        assert!(!is_region(bad), "{bad}");
    }
    assert!(is_instance("i-0123456789abcdef0") && is_instance("i-01234567"));
    assert!(!is_instance("i-0123") && !is_instance("admin") && !is_instance("i-0123456789abcdefg"));
}

#[test]
fn a_proof_is_bound_to_nonce_and_key() {
    let bound = binding("n", "-----BEGIN\nx\n");
    assert_eq!(bound.len(), 64);
    assert_eq!(bound, binding("n", "-----BEGIN\nx"), "white space around the request does not count");
    assert_ne!(bound, binding("m", "-----BEGIN\nx"));
    assert_ne!(bound, binding("n", "-----BEGIN\ny"));
    let short = short_binding(&bound);
    assert!(short.len() == 10 && short.bytes().all(|b| b.is_ascii_digit()), "{short}");
    assert_ne!(short, short_binding(&binding("m", "-----BEGIN\nx")));
}

#[test]
fn a_network_is_asked_for_only_where_all_else_holds() {
    let rule = |vpc: Option<&str>, region: Option<&str>| Conditions::Aws {
        account: "111122223333".to_owned(),
        region: region.map(str::to_owned),
        role: None,
        vpc: vpc.map(str::to_owned),
    };
    let machine = |vpc: Option<&str>| Machine::Aws {
        account: "111122223333".to_owned(),
        region: Some("eu-west-1".to_owned()),
        role: None,
        vpc: vpc.map(str::to_owned),
        instance: "i-0123456789abcdef0".to_owned(),
    };
    let wanted = rule(Some("vpc-0123456789abcdef0"), None);
    assert_eq!(wanted.asks_network_in(&machine(None)), Some("eu-west-1"));
    assert_eq!(rule(None, None).asks_network_in(&machine(None)), None);
    assert_eq!(rule(Some("vpc-0123456789abcdef0"), Some("eu-west-2")).asks_network_in(&machine(None)), None);
    assert_eq!(wanted.admits(&machine(Some("vpc-0123456789abcdef0"))), Ok(()));
    assert_eq!(wanted.admits(&machine(None)).unwrap_err().condition(), "aws-vpc");
    assert!(wanted.admits(&machine(Some("vpc-0fffffffffffffff0"))).is_err());
    for bad in ["vpc-*", "vpc-", "vpc-0123", "subnet-01234567", "vpc-0123456G"] {
        assert!(rule(Some(bad), None).check().is_err(), "{bad}");
    }
    assert_eq!((wanted.check(), wanted.count()), (Ok(()), 2));
}
