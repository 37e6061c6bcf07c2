// SPDX-License-Identifier: Apache-2.0
#include "datapath/book_audit.hpp"

#include <gtest/gtest.h>

namespace mesh::datapath {
namespace {

using Found = std::vector<BookDifference>;

TEST(BookAudit, only_what_stands_in_two_looks_is_corrected) {
  BookAudit audit;
  EXPECT_EQ(audit.look({{3, 1, 2}, {1, 1, -1}}), Found{});
  EXPECT_EQ(audit.look({{1, 1, -1}, {3, 1, 1}}), (Found{{1, 1, -1}})) << "3 changes: connections come and go";
  EXPECT_EQ(audit.look({{3, 1, 1}}), (Found{{3, 1, 1}}));
}

TEST(BookAudit, what_was_corrected_has_to_stand_twice_again) {
  BookAudit audit;
  audit.look({{1, 1, 5}});
  EXPECT_EQ(audit.look({{1, 1, 5}}).size(), 1U);
  EXPECT_EQ(audit.look({{1, 1, 5}}), Found{});
  EXPECT_EQ(audit.look({{1, 1, 5}}).size(), 1U);
}

TEST(BookAudit, another_identity_of_an_id_is_another_difference) {
  BookAudit audit;
  audit.look({{1, 1, 5}});
  EXPECT_EQ(audit.look({{1, 2, 5}}), Found{});
}

TEST(BookAudit, a_difference_reads_as_a_sentence) {
  EXPECT_EQ(to_string(BookDifference{7, 1, -2}), "backend 7: 2 records fewer than open connections in its books");
}

}  // namespace
}  // namespace mesh::datapath
