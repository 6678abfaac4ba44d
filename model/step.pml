/*
 * One step, and everybody who may have a hand in it at the same time: slots of two pods, one of which may die or only
 * seem to, two leaders, somebody who cancels and somebody who tries again. What Postgres does in one statement is one
 * atomic step here; what it does not, is not: a statement that waits for a lock reads with a snapshot from before.
 *
 * Trays are counts, so that a step could come to lie in two. Promises:
 *   P1  as long as it has no outcome, a step lies in exactly one place: in its lane, or under one open claim
 *   P2  an answer is accepted only under the claim that holds the step
 *   P3  an outcome is never replaced, but put aside by a redrive
 *   P4  a step is tried at most so often
 *   P5  whatever dies: when nothing moves any more, the step has its outcome
 *
 * Each can fail: npm run test:model also runs the weakened variants below, and wants to see them fail.
 *   FENCE     2 the claim's row (ours)   1 any claim of this pod   0 nothing
 *   RECOVERY  2 two statements (ours)    1 one statement, with the snapshot from before its lock   0 by id, unlocked
 *   REVIVE    0 a dead row stays dead (ours)   1 a heartbeat makes it live again
 */
#ifndef FENCE
#define FENCE 2
#endif
#ifndef RECOVERY
#define RECOVERY 2
#endif
#ifndef REVIVE
#define REVIVE 0
#endif

#define MAX_RETRIES 1
#define CLAIMS 7
#define MORTAL 1  /* the pod that may die; pod 2 lives */

mtype = { NONE, COMPLETED, FAILED, CANCELLED };

mtype outcome = NONE;
byte ready = 1;            /* rows in the lane */
byte attempt = 1;          /* of the row in the lane */
byte claims = 0;           /* drawn so far */
bool stands[CLAIMS];       /* the claim's row */
bool tried[CLAIMS];        /* an attempt row of that claim */
byte pod_of[CLAIMS];
byte attempt_of[CLAIMS];
byte sharers[CLAIMS];      /* settles in flight hold the claim's row FOR KEY SHARE */
bool taken_away[CLAIMS];   /* a recovery has the row FOR UPDATE */
bool dead[3];              /* what the pod's row says */
bool crashed[3];           /* what is true of its process */
bool redriven = false;

hidden byte opened;          /* scratch, no part of a state */
hidden byte k;

/* Open claims: their row stands, and the step is not handed in under them. */
inline count_open() {
  opened = 0;
  k = 1;
  do
  :: k <= claims -> if :: stands[k] && !tried[k] -> opened++ :: else fi; k++
  :: else -> break
  od
}

inline check_places() {
  count_open();
  assert(outcome != NONE || ready + opened == 1)  /* P1 */
}

inline settle_as(how) {
  assert(how != COMPLETED || (stands[c] && !tried[c]));   /* P2 */
  outcome = how
}

inline give_back() {
  if
  :: attempt_of[c] <= MAX_RETRIES -> attempt = attempt_of[c] + 1; ready++
  /* the primary key allows one outcome */
  :: attempt_of[c] > MAX_RETRIES && outcome == NONE -> outcome = FAILED
  :: attempt_of[c] > MAX_RETRIES && outcome != NONE -> skip
  fi
}

/* A handler, in a slot of a pod. It may be slow for ever so long between any two steps. */
proctype Slot(byte me) {
  byte c = 0;
  byte mine = 0;
  byte other = 0;
end:
  do
  :: atomic { ready > 0 && !dead[me] && !crashed[me] && claims < CLAIMS - 1 ->
       ready--;
       if
       :: outcome != NONE -> skip                 /* it was cancelled while it lay there: dropped */
       :: else ->
            claims++; c = claims; mine = attempt;
            stands[c] = true; pod_of[c] = me; attempt_of[c] = mine;
            assert(mine <= MAX_RETRIES + 1);      /* P4 */
            check_places()
       fi
     }
     if
     :: c == 0 -> skip
     :: else ->
        /* the handler runs */
        if
        :: crashed[me] -> goto gone
        :: else
        fi;
#if FENCE == 2
        atomic {
          if
          :: stands[c] && !taken_away[c] -> sharers[c]++
          :: taken_away[c] || !stands[c] -> (!taken_away[c]); if :: stands[c] -> sharers[c]++ :: else -> goto refused fi
          fi
        }
#elif FENCE == 1
        atomic {
          other = 1;
          do
          :: other <= claims && !(stands[other] && pod_of[other] == me) -> other++
          :: else -> break
          od;
          if :: other > claims -> goto refused :: else fi
        }
#endif
        if
        :: atomic { true ->                       /* completed */
             if :: outcome == NONE -> settle_as(COMPLETED) :: else fi }
        :: atomic { true ->                       /* failed */
             if
             :: tried[c] -> skip
             :: !tried[c] && outcome == NONE && mine <= MAX_RETRIES ->
                  assert(FENCE != 2 || stands[c]);
                  tried[c] = true; attempt = mine + 1; ready++
             :: !tried[c] && outcome == NONE && mine > MAX_RETRIES -> settle_as(FAILED)
             :: !tried[c] && outcome != NONE -> tried[c] = true
             fi }
        fi;
        atomic {
#if FENCE == 2
          sharers[c]--;
#endif
          /* the row goes with the last step of its batch: other steps of it may be open */
          if :: sharers[c] == 0 && !taken_away[c] -> stands[c] = false :: true fi;
          check_places()
        }
refused:
        atomic { c = 0; mine = 0; other = 0 }
     fi
  :: crashed[me] -> break
  od;
gone: skip
}

/* Two at once: leadership only saves work. */
proctype Leader() {
  byte c = 0;
  bool seen_outcome = false;
  bool seen_tried = false;
end:
  do
  /* It may be wrong: a pod that is only slow is declared dead as well. */
  :: atomic { !dead[MORTAL] -> dead[MORTAL] = true }
  :: dead[MORTAL] ->
     /* any claim of the dead */
     atomic {
       c = 1;
       do
       :: c <= claims && !(stands[c] && dead[pod_of[c]]) -> c++
       :: else -> break
       od;
       if :: c > claims -> c = 0 :: else fi
     }
     if
     :: c == 0 -> (false)   /* nothing to do: waits for the other end of the choice below */
     :: c != 0 ->
#if RECOVERY == 2
        /* first statement: skips what a settle holds */
        if
        :: atomic { stands[c] && sharers[c] == 0 && !taken_away[c] -> taken_away[c] = true };
           if
           :: skip;
              /* second statement, with a fresh snapshot */
              atomic { seen_outcome = (outcome != NONE); seen_tried = tried[c] };
              atomic {
                stands[c] = false; taken_away[c] = false;
                if
                :: seen_outcome || seen_tried -> skip
                :: else ->
                     tried[c] = true;
                     give_back()
                fi;
                check_places()
              }
           :: atomic { taken_away[c] = false }    /* the leader dies here: all is rolled back */
           fi
        :: atomic { !stands[c] || sharers[c] > 0 || taken_away[c] -> skip }
        fi;
#elif RECOVERY == 1
        /* one statement: its snapshot is older than the lock that it waits for */
        atomic { seen_outcome = (outcome != NONE); seen_tried = tried[c] };
        atomic { (sharers[c] == 0 && !taken_away[c]);
          if
          :: !stands[c] -> skip
          :: else ->
               stands[c] = false;
               if
               :: seen_outcome || seen_tried -> skip
               :: else ->
                    tried[c] = true;
                    give_back()
               fi
          fi;
          check_places()
        }
#else
        /* finds them, and puts them back by their id */
        atomic {
          stands[c] = false; tried[c] = true;
          give_back();
          check_places()
        }
#endif
        atomic { c = 0; seen_outcome = false; seen_tried = false }
     fi
  od
}

/* A process that dies tells nobody. */
proctype Death() {
end:
  if
  :: atomic { crashed[MORTAL] = true }
  fi
#if REVIVE
  ;
endrevive:
  /* It is back under the same name, and its heart does not ask whether it was declared dead. */
  do
  :: dead[MORTAL] -> dead[MORTAL] = false; break
  od
#endif
}

/* An operator: the primary key of outcomes decides. */
proctype Cancel() {
end:
  atomic { outcome == NONE -> outcome = CANCELLED }
}

/* Gives it all its attempts again, once no claim holds it any more. */
proctype Redrive() {
end:
  atomic { outcome == CANCELLED ->
    count_open();
    if
    :: opened == 0 ->
         outcome = NONE; ready = 1; attempt = 1; redriven = true;
         check_places()
    :: else -> skip
    fi
  }
}

/* P5: nothing can move any more. */
proctype Silence() {
end:
  timeout -> assert(outcome != NONE)
}

init {
  atomic {
    run Slot(1); run Slot(1); run Slot(2);
    run Leader(); run Leader();
    run Death(); run Cancel(); run Redrive(); run Silence()
  }
}
