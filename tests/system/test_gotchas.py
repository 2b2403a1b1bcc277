"""What a broker easily gets wrong, on a running appliance of two shards; and the list of all such
points with the tests that hold them, which test_every_point_has_its_tests keeps true."""
import os
import re
import select
import struct
import subprocess
import sys
import time

import pytest
from appliance import DEADLINE, ROOT, Appliance, wait_for
from wire import Wire, batch

POINTS = {
    "1 framing, headers, ApiVersions": [
        "a_frame_size_outside_the_limits_closes_the_connection",
        "api_versions_of_an_unknown_version_is_answered_in_version_0",
        "a_bad_software_name_is_an_invalid_request", "api_versions_lists_exactly_what_is_served",
        "what_cannot_be_understood_closes_the_connection",
        "bytes_after_a_whole_request_are_not_looked_at",
        "headers_of_the_wrong_version_end_in_kafkas_answer", "the_api_table_is_what_we_advertise",
        "test_api_versions_answers_the_ranges_of_the_table"],
    "2 order and flow control": [
        "responses_leave_in_request_order_although_owners_answer_otherwise",
        "appends_of_one_connection_keep_their_order_per_partition",
        "acks_0_is_silent_and_closes_on_an_error"],
    "2.5 throttling": [
        "a_producer_keeps_to_its_rate_over_all_shards_and_connections",
        "a_muted_connection_is_answered_first_and_read_later", "acks_0_is_muted_without_an_answer",
        "a_consumer_keeps_to_its_rate", "a_throttled_fetch_is_empty_and_keeps_its_session",
        "test_a_producers_rate_holds_and_another_clients_is_its_own"],
    "2.6 idle connections": [
        "idle_connections_close_but_parked_ones_do_not", "test_idle_connections_are_closed"],
    "2.7 limits on connections": [
        "max_connections_counts_all_shards_and_can_be_altered",
        "max_connections_per_ip_counts_an_address_over_all_shards",
        "test_connections_above_the_limit_of_an_address_are_closed_and_counted"],
    "3 metadata": [
        "metadata_names_one_broker_and_every_topic_in_all_versions",
        "metadata_tells_what_is_wrong_with_a_name_or_an_id",
        "operations_nobody_asked_for_are_int32_min"],
    "3.2 auto-creation": [
        "metadata_creates_a_topic_that_is_asked_for",
        "auto_creation_without_a_control_plane_is_leader_not_available"],
    "3.6 advertised listeners": [
        "the_advertised_address_is_the_listeners",
        "test_each_listener_tells_its_own_advertised_address"],
    "3.10, 15 delete and create again": [
        "a_topic_created_again_is_unknown_by_its_old_id",
        "test_a_parked_fetch_ends_when_its_topic_is_deleted",
        "test_live_clients_go_on_with_a_topic_created_again"],
    "4 produce": [
        "every_version_appends_and_tells_the_offset",
        "what_is_wrong_with_a_partition_is_told_for_that_partition",
        "acks_all_waits_for_the_flush_and_acks_1_does_not", "a_timeout_is_answered_and_the_data_stays",
        "internal_topics_take_records_of_kafkas_admin_client_alone",
        "the_base_offset_must_be_0", "counts_must_agree_and_be_positive",
        "attribute_bits_of_the_broker_are_refused", "compacted_topics_need_keys",
        "batches_that_are_too_large_are_refused_with_their_own_errors",
        "the_header_maximum_is_not_believed", "zstd_needs_a_newer_request"],
    "4.3 timestamp bounds": [
        "timestamps_have_inclusive_bounds",
        "test_log_append_time_and_timestamp_bounds_are_honoured_live"],
    "4.4, 5 LogAppendTime": [
        "log_append_time_is_stamped_under_a_new_crc",
        "test_log_append_time_is_told_to_the_producer_and_kept"],
    "4.8, 8 duplicates": [
        "the_last_five_batches_are_recognized_and_no_more",
        "test_a_duplicate_is_answered_with_the_original_offset_also_after_a_restart"],
    "8 sequences": [
        "a_gap_is_refused_and_an_unknown_producer_may_start_anywhere",
        "an_idempotent_producer_that_asks_again_gets_another_id",
        "sequences_wrap_from_the_largest_int_to_zero",
        "a_new_epoch_starts_at_zero_and_an_old_one_is_fenced",
        "a_duplicate_is_known_after_a_restart_and_after_a_crash",
        "producer_ids_are_unique_and_survive_the_control_planes_absence"],
    "8.7 expiry": ["a_producer_idle_for_a_day_is_forgotten_unless_its_transaction_is_open"],
    "6.3 first oversized batch": ["the_first_batch_is_returned_whole_although_it_is_too_large"],
    "6.2 long poll, min.bytes, max.wait": [
        "a_parked_fetch_wakes_when_bytes_are_durable",
        "a_parked_fetch_waits_for_min_bytes_of_all_partitions_together",
        "a_parked_fetch_answers_at_max_wait_with_what_there_is", "max_wait_is_bounded",
        "test_a_parked_consumer_of_all_partitions_is_woken_by_any_shard"],
    "6 fetch": [
        "every_version_returns_the_bytes_of_the_log", "nothing_there_is_empty_never_null",
        "errors_are_answered_at_once_per_partition", "max_bytes_bounds_the_answer_in_request_order",
        "no_partition_starves_when_every_answer_has_room_for_one_batch",
        "an_offset_out_of_range_says_minus_one_everywhere"],
    "6.7, 6.13 isolation": ["isolation_decides_whether_aborted_transactions_are_listed"],
    "7 fetch sessions": [
        "ids_and_epochs_follow_the_table", "the_epoch_after_the_last_is_one",
        "only_news_is_sent_and_an_error_makes_the_next_answer_news",
        "unknown_sessions_are_refused_and_whole_requests_need_none"],
    "9 ListOffsets, OffsetForLeaderEpoch": [
        "list_offsets_knows_the_special_timestamps_of_each_version",
        "list_offsets_finds_the_record_not_the_batch",
        "offset_for_leader_epoch_asks_every_owner_and_checks_epochs",
        "leader_epochs_fence_and_answer_as_kafka_does"],
    "10 classic groups": [
        "find_coordinator_names_this_broker_once_there_is_a_topic", "a_group_id_hashes_as_java_does",
        "a_new_member_is_told_its_id_first_from_version_4_on", "a_join_is_checked_before_anything_else",
        "the_first_join_waits_for_others_and_longer_while_they_come",
        "who_does_not_rejoin_in_time_is_left_behind", "members_vote_for_a_protocol_that_all_support",
        "a_follower_that_says_the_same_again_causes_no_rebalance", "syncs_and_heartbeats_are_checked",
        "assignments_are_handed_out_when_they_are_durable",
        "who_never_syncs_is_removed_after_the_rebalance_timeout",
        "a_silent_member_is_removed_after_its_session",
        "leaving_rebalances_and_each_member_gets_its_own_answer",
        "a_static_member_comes_back_without_a_rebalance", "a_full_group_takes_nobody",
        "a_commit_keeps_a_member_in_its_group_and_a_fetch_does_not", "what_members_say_of_themselves_is_opaque",
        "a_restart_finds_the_group_and_waits_a_session_for_its_members",
        "an_unknown_group_is_dead_or_not_found_from_version_6_on",
        "groups_are_listed_by_state_and_type_and_deleted_when_empty"],
    "11 offsets": [
        "commits_are_checked_as_kafka_does", "partitions_are_refused_one_by_one", "what_was_never_committed_is_minus_one_and_no_error",
        "every_version_of_offset_fetch_says_the_same", "a_commit_is_acknowledged_and_seen_when_it_is_durable",
        "append_errors_become_errors_of_the_coordinator",
        "offsets_expire_when_nobody_used_them_for_long", "a_deleted_topic_takes_its_offsets_along",
        "offsets_are_deleted_unless_somebody_subscribes", "a_restart_keeps_every_committed_offset"],
    "12 transactions": [
        "a_producer_that_begins_anew_raises_the_epoch_and_fences_the_one_before",
        "the_client_is_answered_when_the_outcome_is_durable_and_markers_follow",
        "with_kip_890_every_end_raises_the_epoch_and_a_retry_is_told_the_same",
        "a_produce_to_a_partition_that_did_not_join_is_refused_before_kip_890",
        "a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced",
        "an_id_is_forgotten_a_week_after_its_last_transaction",
        "offsets_of_a_transaction_count_from_its_commit_on",
        "offsets_of_a_zombie_member_or_outside_of_a_transaction_are_refused"],
    "13 consumer groups (KIP-848)": [
        "requests_are_checked_before_anything_else", "epochs_that_do_not_fit_are_fenced",
        "a_full_request_is_answered_with_the_assignment",
        "a_partition_is_given_up_before_another_member_gets_it",
        "who_does_not_give_up_in_time_is_removed", "changed_subscriptions_and_topics_raise_the_epoch",
        "a_static_member_bounces_without_a_rebalance", "patterns_follow_the_topics",
        "the_protocols_do_not_mix_in_a_group_with_members", "commits_are_checked_against_the_epoch"],
    "14 SASL": ["sasl_on_a_plaintext_listener_is_an_illegal_state_and_nothing_closes", "nobody_has_scram_credentials"],
    "16 admin": [
        "create_topics_follows_kafkas_rules", "validate_only_creates_nothing_and_duplicates_are_refused",
        "more_replicas_are_refused_or_clamped_as_configured",
        "describe_configs_tells_value_source_and_synonyms",
        "a_value_is_described_by_every_step_it_may_come_from",
        "incremental_alter_configs_follows_kafkas_rules", "alter_configs_replaces_every_override",
        "broker_configs_are_altered_where_kafka_allows_it", "create_partitions_only_grows",
        "delete_records_moves_the_log_start_and_says_where_it_is",
        "describe_cluster_knows_brokers_only", "describe_topic_partitions_goes_on_from_its_cursor",
        "describe_log_dirs_groups_sizes_by_directory_and_topic"],
    "17 tagged fields and encoding": [
        "tags_nobody_knows_are_skipped",
        "counts_and_lengths_of_2_gib_hold_no_more_than_the_request_pays_for"],
    "18 limits": [
        "large_requests_wait_for_each_other_and_slow_ones_are_closed",
        "test_two_hundred_connections_that_declare_100_mib_do_not_slow_the_others"],
}


def test_every_point_has_its_tests():
    defined = set()
    for base, _, files in os.walk(os.path.join(ROOT, "tests")):
        for name in files:
            if name.endswith((".c", ".py")):
                with open(os.path.join(base, name), encoding="utf-8") as f:
                    text = f.read()
                defined |= set(re.findall(r"^(?:static void|def) (\w+)\(", text, re.M))
    sections = {int(n) for key in POINTS for n in re.findall(r"(?<![.\d])\d+", key)}
    assert sections >= set(range(1, 19)), "a section of the list has no tests"
    missing = [t for tests in POINTS.values() for t in tests if t not in defined]
    assert not missing, f"no such tests: {missing}"


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    with Appliance(tmp_path_factory.mktemp("gotchas"), sets=["shards=2"]) as a:
        yield a


def table_of_apis(path):
    """Key: (lowest, highest version, put off: "later 0-1") by the last column of table 1, of the rows that have
    versions there; "1-3 (later)" has none yet, nor has what another stage brings."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            cells = [c.strip(" *") for c in line.strip().strip("|").split("|")]
            if len(cells) != 16 or not cells[0].isdigit():
                continue
            m = re.match(r"(?:later )?(\d+)(?:-(\d+))?(?![\d-])(?! \(later\))", cells[-1])
            if m:
                found[int(cells[0])] = (int(m[1]), int(m[2] or m[1]), "later" in cells[-1])
    return found


def test_api_versions_answers_the_ranges_of_the_table(appliance):
    """What ApiVersions answers is column "advertise (v1)", no API more and none less; of those it puts off, the
    client quotas are there, and DescribeUserScramCredentials, without which kafka-configs shows no quota of a user. Produce says 0 for old clients' sake, as the column wants it."""
    path = os.environ.get("SLUICE_KAFKA_API_TABLE")
    if not path:
        pytest.skip("the versions we advertise are not compared: SLUICE_KAFKA_API_TABLE names no table of APIs")
    table = table_of_apis(path)
    assert len(table) > 40 and table[1] == (4, 18, False), table
    want = {key: (0 if key == 0 else low, high) for key, (low, high, later) in table.items()
            if not later or key in (48, 49, 50)}
    for version in range(3):
        with Wire(appliance.kafka) as c:
            a = c.ask(18, version, b"")
        error, count = struct.unpack_from(">hi", a)
        got = {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", a[6:6 + 6 * count])}
        assert error == 0 and len(got) == count
        assert got == want, {k: (got.get(k), want.get(k)) for k in got | want if got.get(k) != want.get(k)}


def now():
    return int(time.time() * 1000)


def test_a_duplicate_is_answered_with_the_original_offset_also_after_a_restart(tmp_path):
    with Appliance(tmp_path, sets=["shards=2"]) as a:
        a.ctl("topic", "create", "dup")
        with Wire(a.kafka) as c:
            producer = c.producer_id()
            sent = [batch([b"%d" % i, b"+"], now(), (*producer, 2 * i)) for i in range(8)]
            for i, b in enumerate(sent):
                assert c.produce("dup", 0, b)[:2] == (0, 2 * i)
            for i in range(3, 8):  # the last five are known
                assert c.produce("dup", 0, sent[i])[:2] == (0, 2 * i)
            assert c.produce("dup", 0, sent[2])[0] == 45
            gap = batch([b"gap"], now(), (*producer, 99))
            assert c.produce("dup", 0, gap)[0] == 45
            old = batch([b"old"], now(), (producer[0], -1, 16))
            assert c.produce("dup", 0, old)[0] != 0
        a.kill_dataplane()
        wait_for("the topic is served again", lambda: a.end_offset("dup") == 16)
        with Wire(a.kafka) as c:
            assert c.produce("dup", 0, sent[7])[:2] == (0, 14)
            assert c.produce("dup", 0, gap)[0] == 45
            assert c.produce("dup", 0, batch([b"next"], now(), (*producer, 16)))[:2] == (0, 16)
        assert a.end_offset("dup") == 17


def test_log_append_time_is_told_to_the_producer_and_kept(appliance):
    a = appliance
    a.ctl("topic", "create", "stamped", "--config", "message.timestamp.type=LogAppendTime")
    a.ctl("topic", "create", "plain")
    with Wire(a.kafka) as c:
        before = now()
        error, offset, stamp, start = c.produce("stamped", 0, batch([b"a", b"b"], 1000))
        assert (error, offset, start) == (0, 0, 0) and before - 1000 <= stamp <= now() + 1000
        records = c.fetch("stamped", 0, 0)[3]
        attributes, = struct.unpack_from(">h", records, 21)
        maximum, = struct.unpack_from(">q", records, 35)
        assert attributes & 8 and maximum == stamp
        assert c.produce("plain", 0, batch([b"a"], now()))[2] == -1
        assert c.produce("plain", 0, batch([b"late"], now() + 7200000))[0] == 32


def test_each_listener_tells_its_own_advertised_address(tmp_path):
    sets = ["kafka.listeners[1].name=outside", "kafka.listeners[1].bind=127.0.0.1:0",
            "kafka.listeners[1].advertised_host=log.example.org",
            "kafka.listeners[1].advertised_port=19092"]
    with Appliance(tmp_path, sets=sets) as a:
        told = {}
        for name in (n for n in a.ports() if n in ("outside", "kafka", "plaintext")):
            with Wire(f"127.0.0.1:{a.port(name)}") as c:
                (_, host, port), = c.brokers()
                told[name] = (host, port)
        inside = next(n for n in told if n != "outside")
        assert told == {"outside": ("log.example.org", 19092),
                        inside: ("127.0.0.1", a.port(inside))}


def test_a_parked_fetch_ends_when_its_topic_is_deleted(appliance):
    a = appliance
    a.ctl("topic", "create", "doomed", "--partitions", "2")
    for partition in (0, 1):
        with Wire(a.kafka) as c:
            assert c.produce("doomed", partition, batch([b"x"], now()))[0] == 0
    with Wire(a.kafka) as first, Wire(a.kafka) as second:
        for partition, c in enumerate((first, second)):
            c.send(1, 4, c.fetch_body("doomed", partition, 1, wait_ms=60000))
        begin = time.monotonic()
        a.ctl("topic", "delete", "doomed")
        got = [c.fetched("doomed", c.answer())[0] for c in (first, second)]
    print(f"ended {time.monotonic() - begin:.1f} s after they began")
    assert got == [3, 3]


# One producer and one consumer that live as long as the process: for each line the producer sends it
# until it is delivered and the consumer reads the topic from its start until it sees it.
LIVE_CLIENTS = """
import sys
import confluent_kafka as ck
common = {"bootstrap.servers": sys.argv[1], "topic.metadata.refresh.interval.ms": 500}
producer = ck.Producer({**common, "linger.ms": 0})
consumer = ck.Consumer({**common, "group.id": "live"})
for line in sys.stdin:
    value, delivered = line.strip().encode(), []
    while None not in delivered:
        producer.produce("again", value, on_delivery=lambda err, _: delivered.append(err))
        producer.flush(10)
    consumer.assign([ck.TopicPartition("again", 0, ck.OFFSET_BEGINNING)])
    while True:
        m = consumer.poll(0.5)
        if m is not None and m.error() is None and m.value() == value:
            break
    print("seen", flush=True)
"""


def test_live_clients_go_on_with_a_topic_created_again(tmp_path):
    """The same producer and consumer of librdkafka, with all they remember of the topic: its id is
    another now, and its offsets start at 0 again. They have a process of their own, which is killed:
    a consumer whose topic was deleted may wait for ever when it closes (librdkafka issue 4362)."""
    pytest.importorskip("confluent_kafka")
    with Appliance(tmp_path, sets=["shards=2"]) as a:
        with subprocess.Popen([sys.executable, "-c", LIVE_CLIENTS, a.kafka], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as clients:
            try:
                for i in range(3):
                    a.ctl("topic", "create", "again")
                    clients.stdin.write(b"round %d\n" % i)
                    clients.stdin.flush()
                    assert select.select([clients.stdout], [], [], DEADLINE)[0], f"round {i} not seen"
                    assert clients.stdout.readline() == b"seen\n"
                    a.ctl("topic", "delete", "again")
            finally:
                clients.kill()
